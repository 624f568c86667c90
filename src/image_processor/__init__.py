"""Image Processor: upload, check, process into variants, store, serve."""

from importlib.metadata import version

__version__ = version("image-processor")
__all__ = ["__version__"]
