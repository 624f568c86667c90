"""`python -m image_processor.api`: the API process, as the service starts it."""

import sys

from image_processor.api.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
