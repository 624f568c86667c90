"""`python -m image_processor.api`: the API process, as the service starts it."""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # what is loaded stays: looking through it again and again is a seventh of the start
    from image_processor.api.server import main

    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:]))
