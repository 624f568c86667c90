"""Stored bytes as an HTTP answer: type, ETag, conditions, one range. What is served is decided elsewhere."""

from collections.abc import Generator
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response, StreamingResponse

from image_processor.api.lanes import read_out
from image_processor.api.openapi import header_references
from image_processor.api.ranges import ByteRange, UnsatisfiableRangeError, parse_range
from image_processor.pipeline import ImageFormat
from image_processor.storage.base import Storage, StoredObject

CHUNK_BYTES = 256 * 1024
SERVED = frozenset(known.media_type for known in ImageFormat if known is not ImageFormat.SVG)
"""What is not of these types is for downloading, whatever its storage says: a page could run in a browser."""
DOWNLOADED = "application/octet-stream"
BYTES = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in (*sorted(SERVED), DOWNLOADED)
}
TOLD = ("ETag", "Cache-Control", "Accept-Ranges")
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": BYTES, "description": "The bytes.", **header_references(*TOLD)},
    206: {
        "content": BYTES,
        "description": "The bytes of the range asked for.",
        **header_references(*TOLD, "Content-Range"),
    },
    304: {"description": "The client has these bytes already.", **header_references(*TOLD)},
}
"""What OpenAPI is told of an answer with a file."""


def file_answer(request: Request, storage: Storage, key: str, *, cache_control: str) -> Response:
    """
    The object under `key`, whole, in part (206) or unchanged (304).

    Raises what the storage raises, NotFoundError above all, and HTTPException 416 for a range it has not.
    """
    stored = storage.stat(key)
    headers = {
        "ETag": etag(stored),
        "Cache-Control": cache_control,
        "Accept-Ranges": "bytes",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if _is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    try:
        part = parse_range(_wanted_range(request, headers["ETag"]), stored.size_bytes)
    except UnsatisfiableRangeError as error:
        size = stored.size_bytes
        raise HTTPException(
            416, f"The file has {size} bytes and no such range", {"Content-Range": f"bytes */{size}"}
        ) from error
    return _stream(request, storage, stored, part, headers)


def etag(stored: StoredObject) -> str:
    """A strong validator: the content's hash where it is known, else size and time of the last write."""
    return f'"{stored.sha256 or f"{stored.size_bytes:x}-{int(stored.modified_at * 1e6):x}"}"'


def _is_unchanged(request: Request, tag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in known.split(",")]


def _wanted_range(request: Request, tag: str) -> str | None:
    if request.method != "GET":  # RFC 9110, 14.2: ranges mean nothing to any other method
        return None
    condition = request.headers.get("if-range")
    return request.headers.get("range") if condition in (None, tag) else None


def _stream(
    request: Request, storage: Storage, stored: StoredObject, part: ByteRange | None, headers: dict[str, str]
) -> Response:
    wanted = part or ByteRange(0, stored.size_bytes)
    headers["Content-Length"] = str(wanted.length)
    if part is not None:
        headers["Content-Range"] = part.content_range(stored.size_bytes)
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=_media_type(stored))
    chunks = _chunks(storage, stored.key, wanted)
    next(chunks)  # a file that has just gone is found missing before the answer begins
    return StreamingResponse(
        read_out(chunks),
        status_code=status,
        headers=headers,
        media_type=_media_type(stored),
    )


def _media_type(stored: StoredObject) -> str:
    return stored.content_type if stored.content_type in SERVED else DOWNLOADED


def _chunks(storage: Storage, key: str, wanted: ByteRange) -> Generator[bytes, None, None]:
    """Nothing once the first bytes are there, then all of them."""
    with storage.open(key) as file:
        file.seek(wanted.start)
        left = wanted.length
        chunk = file.read(min(CHUNK_BYTES, left))
        yield b""
        while chunk:
            left -= len(chunk)
            yield chunk
            chunk = file.read(min(CHUNK_BYTES, left)) if left > 0 else b""
