"""
Connections that lead where they were checked to lead, and end by their deadline.

The layer under httpcore: resolves once, checks every address, connects to a checked address and to nothing
else. What is asked and answered over the connection is the client's.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from queue import Empty, SimpleQueue

import httpcore
from httpcore import SOCKET_OPTION

from image_processor.errors import SourceUnavailableError
from image_processor.outbound.addresses import Address, Territory
from image_processor.outbound.urls import WebUrl

LOOKUPS_AT_ONCE = 32
"""The system's resolver cannot be stopped: a thread that waits for it is left behind until it answers."""
ADDRESSES_TRIED = 4

Lookup = Callable[[str], Sequence[str]]


class Deadline:
    """The end of one operation, however many steps it has. Times are monotonic."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left, above 0; raises SourceUnavailableError once there are none."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> SourceUnavailableError:
        """The error of an operation that took too long."""
        return SourceUnavailableError(f"The URL's host did not answer in full within {self.seconds:g} s.")


def system_lookup(host: str) -> Sequence[str]:
    """All addresses of a name, as this machine's resolver has them. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in found))


class Resolver:
    """A look-up with an end, for a look-up that has none."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._slots = threading.Semaphore(LOOKUPS_AT_ONCE)

    def addresses(self, host: str, deadline: Deadline) -> list[Address]:
        """The addresses of a name, at least one; raises SourceUnavailableError."""
        if not self._slots.acquire(timeout=deadline.remaining()):
            raise deadline.passed()
        answer: SimpleQueue[Sequence[str] | OSError | UnicodeError] = SimpleQueue()
        threading.Thread(target=self._answer, args=(host, answer), daemon=True, name="lookup").start()
        try:
            found = answer.get(timeout=deadline.remaining())
        except Empty:
            raise deadline.passed() from None
        if isinstance(found, Exception) or not found:
            raise SourceUnavailableError(f"The host {host} has no address.") from (
                found if isinstance(found, Exception) else None
            )
        return [ip_address(text) for text in found]

    def _answer(self, host: str, answer: "SimpleQueue[Sequence[str] | OSError | UnicodeError]") -> None:
        try:
            answer.put(self._lookup(host))
        except (OSError, UnicodeError) as error:
            answer.put(error)
        finally:
            self._slots.release()


@dataclass(frozen=True)
class Budget:
    """What one exchange may take."""

    deadline: Deadline
    wire_bytes: int
    """Bytes that may come in, headers and framing included."""


class PinnedBackend(httpcore.NetworkBackend):
    """Makes the one connection of one exchange with the host of `url`."""

    def __init__(self, url: WebUrl, territory: Territory, resolver: Resolver, budget: Budget) -> None:
        self._url = url
        self._territory = territory
        self._resolver = resolver
        self._budget = budget

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the URL has it, parsed once
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the budget has the deadline
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """
        A connection to one of the host's addresses.

        Raises:
            AddressRefusedError: one of the addresses may not be connected to.
            SourceUnavailableError: there is none, or the deadline passed.
            httpcore.ConnectError, httpcore.ConnectTimeout: the last one tried failed.
        """
        addresses = self._checked_addresses()[:ADDRESSES_TRIED]
        for left in range(len(addresses), 0, -1):
            try:
                stream = httpcore.SyncBackend().connect_tcp(
                    str(addresses[-left]),
                    port,
                    self._budget.deadline.remaining() / left,
                    local_address,
                    socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
            else:
                return BoundedStream(stream, self._budget)
        raise SourceUnavailableError(f"The host {self._url.host} has no address.")

    def _checked_addresses(self) -> list[Address]:
        literal = self._url.address
        found = [literal] if literal else self._resolver.addresses(self._url.host, self._budget.deadline)
        self._territory.check(found, is_encrypted=self._url.is_encrypted)
        return found


class BoundedStream(httpcore.NetworkStream):
    """A stream on which every step waits for what is left of the deadline, and no longer."""

    def __init__(self, stream: httpcore.NetworkStream, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._received = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """The next bytes; raises SourceUnavailableError past the deadline or the bytes on the wire."""
        received = self._stream.read(max_bytes, self._budget.deadline.remaining())
        self._received += len(received)
        if self._received > self._budget.wire_bytes:
            raise SourceUnavailableError("The URL's host sends more framing than content.")
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of it, piece by piece, so that a receiver that takes a byte at a time gains nothing."""
        view = memoryview(buffer)
        for start in range(0, len(view), 16_384):
            piece = bytes(view[start : start + 16_384])
            self._stream.write(piece, self._budget.deadline.remaining())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """The same, encrypted, once the certificate was checked for the host's name."""
        encrypted = self._stream.start_tls(ssl_context, server_hostname, self._budget.deadline.remaining())
        return BoundedStream(encrypted, self._budget)

    def get_extra_info(self, info: str) -> object:
        """What httpcore wants to know of the socket."""
        return self._stream.get_extra_info(info)
