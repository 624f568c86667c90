"""`python -m bench`: every measurement, one after the other."""

import sys
from pathlib import Path

from bench import rendering, uploads

PHOTOS = Path(__file__).parents[2] / "shared" / "photos" / "camera"


def main() -> int:
    """Run the measurements and print their tables."""
    photos = sorted(PHOTOS.glob("*.jpg"))
    if not photos:
        print(f"There are no photos in {PHOTOS}.")
        return 1
    rendering.measure(photos)
    uploads.measure(photos)
    return 0


if __name__ == "__main__":
    sys.exit(main())
