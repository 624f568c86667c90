"""`python -m image_processor`: the command line."""

from image_processor.cli import main

if __name__ == "__main__":
    main()
