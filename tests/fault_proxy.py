"""A TCP proxy between a client and a real server that can be told to fail, on a thread of its own."""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable
from contextlib import suppress
from enum import StrEnum
from typing import Self

CHUNK_BYTES = 65_536
PATIENCE_SECONDS = 30.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Mode(StrEnum):
    """What happens to connections from now on."""

    PASS = "pass"
    DELAY = "delay"
    """Each reply comes `delay_seconds` late."""
    REFUSE = "refuse"
    """Nobody listens; open connections are reset."""
    BLACK_HOLE = "black_hole"
    """Connections are taken and nothing is answered, nor asked of the server."""
    DEAF = "deaf"
    """What the client says arrives and has its effect; the replies are lost."""
    RESET = "reset"
    """Connections are taken and reset; so are open ones."""
    HALF_REPLY = "half_reply"
    """Half of the next reply arrives, then the connection ends."""


SWALLOWED = {Mode.BLACK_HOLE: ("request", "reply"), Mode.DEAF: ("reply",)}


class _Connection:
    """Two streams, client and server; what once fell silent stays so, as behind a router that forgot it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)
        self.silent: set[str] = set()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def reset(self) -> None:
        for writer in self.writers:
            _reset(writer)


class FaultProxy:
    """
    Listens on `port` while the block lasts; set `mode` (a `Mode` or its name) at any time.

    `with FaultProxy(server.port) as proxy: proxy.mode = "black_hole"`.
    """

    def __init__(self, target_port: int, *, mode: Mode | str = Mode.PASS, delay_seconds: float = 0.1) -> None:
        self.target_port = target_port
        self.delay_seconds = delay_seconds
        self.accepted = 0
        """How many connections came."""
        self._mode = Mode(mode)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        # Bound and not listening, it keeps the port for us and lets the kernel refuse.
        self._placeholder = _bound_socket(0)
        self.port: int = self._placeholder.getsockname()[1]

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode | str) -> None:
        self._do(self._change(Mode(mode)))

    def reset_connections(self) -> None:
        """End the open connections at once; new ones come as the mode says."""
        self._do(self._reset_connections())

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._change(self._mode))
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()
        self._placeholder.close()

    def _do(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _change(self, mode: Mode) -> None:
        self._mode = mode
        if mode in {Mode.REFUSE, Mode.RESET}:
            await self._reset_connections()
        for connection in self._connections:
            connection.silent.update(SWALLOWED.get(mode, ()))
        await (self._stop_listening() if mode is Mode.REFUSE else self._listen())

    async def _listen(self) -> None:
        if self._listener is None:
            self._placeholder.close()
            self._listener = await asyncio.start_server(
                self._accept, sock=_bound_socket(self.port), backlog=128
            )

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._placeholder = _bound_socket(self.port)

    async def _reset_connections(self) -> None:
        for connection in tuple(self._connections):
            connection.reset()

    async def _end(self) -> None:
        await self._reset_connections()
        await self._stop_listening()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._mode is Mode.RESET:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(writer, server_writer)
        connection.silent.update(SWALLOWED.get(self._mode, ()))
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump("request", reader, server_writer, connection),
                self._pump("reply", server_reader, writer, connection),
            )
        finally:
            connection.close()
            self._connections.discard(connection)

    async def _pump(
        self, what: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._forward(what, chunk, writer, connection)
        connection.close()

    async def _forward(
        self, what: str, chunk: bytes, writer: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        if what == "reply" and self._mode is Mode.DELAY:
            await asyncio.sleep(self.delay_seconds)
        if what in connection.silent or writer.is_closing():
            return
        is_half = what == "reply" and self._mode is Mode.HALF_REPLY
        writer.write(chunk[: len(chunk) // 2] if is_half else chunk)
        await writer.drain()
        if is_half:
            connection.close()


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    """End it with RST rather than FIN."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()
