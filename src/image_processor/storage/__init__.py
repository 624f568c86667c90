"""Where bytes are kept: one narrow protocol, keys of one grammar, and the places behind them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from image_processor.storage.base import Storage
    from image_processor.storage.local import LocalStorage
    from image_processor.storage.memory import MemoryStorage
    from image_processor.storage.s3.client import S3Options
    from image_processor.storage.s3.objects import S3Storage

__all__ = ["LocalStorage", "MemoryStorage", "S3Options", "S3Storage", "Storage"]

_HOMES = {
    "LocalStorage": "local",
    "MemoryStorage": "memory",
    "S3Options": "s3.client",
    "S3Storage": "s3.objects",
    "Storage": "base",
}
"""Where these names live. Nothing is loaded before it is asked for: a service on a disk needs no boto3."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return globals().setdefault(name, found)


def __dir__() -> list[str]:
    return __all__
