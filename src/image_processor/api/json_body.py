"""A JSON body, read within bounds of length and time. What it means is not said here."""

import asyncio
from email.message import Message

from fastapi import Request

from image_processor.errors import FileTooLargeError, InvalidRequestError, UploadTimeoutError

MAX_DIGITS = 20
"""Of a declared length: more of them only make a number longer that is too large already."""


async def read_body(request: Request, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """
    The body of a request that says it is JSON.

    A browser sends no JSON to another origin unasked, so the type is not optional.
    Raises InvalidRequestError, FileTooLargeError, UploadTimeoutError.
    """
    if not _is_json(request.headers.get("content-type", "")):
        raise InvalidRequestError("The body is not JSON: send it with `Content-Type: application/json`.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:MAX_DIGITS]) > max_bytes:
        raise _too_long(max_bytes)
    try:
        return await asyncio.wait_for(_read(request, max_bytes), timeout_seconds)
    except TimeoutError as error:
        raise UploadTimeoutError(f"The body was not complete after {timeout_seconds:g} seconds.") from error


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_long(max_bytes)
    return bytes(body)


def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    media_type = message.get_content_type()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _too_long(max_bytes: int) -> FileTooLargeError:
    return FileTooLargeError(f"The body is longer than {max_bytes // 1024} KiB.", max_bytes=max_bytes)
