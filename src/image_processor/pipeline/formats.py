"""The image formats that this package has a word for. What can be decoded or accepted is said elsewhere."""

from enum import StrEnum


class ImageFormat(StrEnum):
    """A container format, named as its files are."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    TIFF = "tiff"
    BMP = "bmp"
    AVIF = "avif"
    HEIC = "heic"
    SVG = "svg"

    @property
    def media_type(self) -> str:
        """The IANA media type, such as `image/jpeg`."""
        return {"svg": "image/svg+xml"}.get(self.value, f"image/{self.value}")

    @property
    def extension(self) -> str:
        """The usual file extension without its dot, such as `jpg`."""
        return {"jpeg": "jpg", "tiff": "tif"}.get(self.value, self.value)

    @property
    def label(self) -> str:
        """The name as people write it, such as `JPEG` or `WebP`."""
        return "WebP" if self is ImageFormat.WEBP else self.value.upper()

    @classmethod
    def from_media_type(cls, media_type: str) -> "ImageFormat":
        """The format of a media type; raises ValueError for one that is not known."""
        prefix, _, name = media_type.partition("/")
        if prefix != "image":
            raise ValueError(f"{media_type!r} is not an image type")
        return cls(name.removesuffix("+xml"))
