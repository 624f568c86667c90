"""Where bytes are kept: one narrow protocol, keys of one grammar, and the places behind them."""

from typing import TYPE_CHECKING

from image_processor.on_demand import names_of

if TYPE_CHECKING:
    from image_processor.storage.base import Storage
    from image_processor.storage.local import LocalStorage
    from image_processor.storage.memory import MemoryStorage
    from image_processor.storage.s3.client import S3Options
    from image_processor.storage.s3.objects import S3Storage

__all__ = [
    "LocalStorage",
    "MemoryStorage",
    "S3Options",
    "S3Storage",
    "Storage",
]

__getattr__ = names_of(
    __name__,
    {
        "LocalStorage": "local",
        "MemoryStorage": "memory",
        "S3Options": "s3.client",
        "S3Storage": "s3.objects",
        "Storage": "base",
    },
)


def __dir__() -> list[str]:
    return __all__
