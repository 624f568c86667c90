"""What we measure. `make bench` runs everything on the camera photos in ../shared/photos."""
