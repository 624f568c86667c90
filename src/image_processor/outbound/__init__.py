"""The one way out of the house to strangers' addresses. Nothing else here opens a connection to a URL."""

from image_processor.outbound.client import Outbound

__all__ = ["Outbound"]
