"""`python -m image_processor.worker`: one worker process, as the service starts it."""

import sys

from image_processor.worker.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
