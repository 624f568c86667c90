"""What every answer goes through on its way out, whatever made it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
API: Mapping[str, str] = {
    **ALWAYS,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES: Mapping[str, str] = {**API, "Cross-Origin-Resource-Policy": "cross-origin"}
"""Pages of anybody may show a picture whose address they know."""
DOCS: Mapping[str, str] = {
    **API,
    # The page is static, and brings its script from elsewhere and in itself.
    "Content-Security-Policy": (
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


BY_PREFIX: Mapping[str, Mapping[str, str]] = {"/storage/": FILES, "/docs": DOCS, "": API}
"""By what a path begins with: the first that fits."""


def safe_headers(path: str) -> Mapping[str, str]:
    """What an answer at this path tells browsers and caches, where it does not say otherwise itself."""
    return BY_PREFIX[_prefix(path)]


def _prefix(path: str) -> str:
    return next(prefix for prefix in BY_PREFIX if path.startswith(prefix))


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


RAW_BY_PREFIX = {prefix: _raw(headers) for prefix, headers in BY_PREFIX.items()}
"""The same as they go over the wire, with every answer."""


class SafeHeaders:
    """Adds the headers that keep browsers and caches from making more of an answer than it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with the headers added that it did not set itself."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                names = {name for name, _ in headers}
                safe = RAW_BY_PREFIX[_prefix(scope["path"])]
                message = {**message, "headers": headers + [pair for pair in safe if pair[0] not in names]}
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)


LINGER_SECONDS = 2.0
LINGER_BYTES = 32 * 1024 * 1024
"""What is still taken, and thrown away, of a body that was refused before its end."""


class HangUp:
    """
    Ends the connection behind an answer that came before the body was read: the rest is not taken in.

    Not at once: a connection that is closed on unread bytes is reset, and a reset may overtake the answer
    (RFC 9112, 9.6): nginx then tells its client 502. So the rest is thrown away for a while after the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does; with `Connection: close` where some of the body is unread."""
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        is_read = hangs_up = False

        async def receive_body() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def send_and_hang_up(message: Message) -> None:
            nonlocal hangs_up
            if message["type"] == "http.response.start" and not is_read:
                MutableHeaders(scope=message)["Connection"] = "close"
                hangs_up = True
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_last and hangs_up and not is_read:
                await send({**message, "more_body": True})
                await _drain(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, receive_body, send_and_hang_up)


async def _drain(receive: Receive) -> None:
    """Throw away what still comes, until its end, the client's leave, or enough."""
    left = LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0:
                message = await receive()
                if not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
