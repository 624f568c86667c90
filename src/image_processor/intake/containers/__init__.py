"""One file per container format: each walks its headers and says how large the image is."""
