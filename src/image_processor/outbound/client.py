"""
Requests to addresses that strangers name: what is asked, which answers count, and where redirects lead.

No proxies and no credentials from the environment, no cookies, no decompression, a connection per request.
"""

import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import httpcore

from image_processor.errors import (
    AddressRefusedError,
    FileTooLargeError,
    InvalidRequestError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from image_processor.outbound.addresses import Network, Territory
from image_processor.outbound.connection import (
    Budget,
    Deadline,
    Lookup,
    PinnedBackend,
    Resolver,
    system_lookup,
)
from image_processor.outbound.urls import WebUrl, parse_url

MIB = 1024 * 1024
MAX_REDIRECTS = 5
MAX_ANSWER_BYTES = 64 * 1024
"""As much of the answer to a POST is read."""
FRAMING_BYTES = MIB
"""Headers and framing that an answer may have; beyond it, framing may weigh as much as the content."""
MAX_PAUSE_SECONDS = 86_400.0

_CONTENT = frozenset({200, 203})
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
"""Refusals that say: later."""
_LOCALHOST = frozenset({"localhost"})

Headers = Mapping[str, str]


class AnswerStatus(int):
    """The status of an answer."""

    retry_after_seconds: float | None = None
    """How long the host asks us to wait, 0 to 86 400; None where it does not say."""


class Outbound:
    """
    HTTP to public addresses, and into `private_networks`; plain http:// goes only to the latter.

    `lookup` gives the addresses of a name; it is asked once per connection, and the connection goes to one of
    the addresses that were checked. `ssl_context` is for certificates that the system does not know.
    """

    def __init__(
        self,
        *,
        private_networks: Iterable[Network] = (),
        ssl_context: ssl.SSLContext | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._territory = Territory(tuple(private_networks))
        self._given_context = ssl_context
        self._resolver = Resolver(lookup)

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        """The system's certificates and those of certifi; read once something is gone to."""
        return self._given_context or httpcore.default_ssl_context()

    def check(self, url: str) -> str:
        """
        The URL in its canonical form. Names are not looked up: that is done when it is gone to.

        Raises:
            InvalidRequestError: not a URL that can be gone to.
            AddressRefusedError: its host is an address that is not public.
        """
        parsed = parse_url(url)
        if not parsed.is_encrypted and not self._territory.private_networks:
            raise InvalidRequestError("A URL begins with https://.")
        self._check_host(parsed)
        return str(parsed)

    @contextmanager
    def get(self, url: str, *, max_bytes: int, timeout_seconds: float) -> Iterator[Iterator[bytes]]:
        """
        The content behind a URL, in chunks as they come; the time is for all of it, redirects included.

        Raises, at once or between chunks:
            InvalidRequestError, AddressRefusedError: as `check`, and for where names and redirects lead.
            SourceNotFoundError: the host does not give it to us.
            SourceUnavailableError: the host failed, or did not answer in full in time.
            FileTooLargeError: there are more than `max_bytes`.
        """
        budget = Budget(Deadline(timeout_seconds), 2 * max_bytes + FRAMING_BYTES)
        target = parse_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            with self._exchange(_request("GET", target), target, budget) as response:
                if response.status not in _REDIRECT:
                    _check_content(response, target, max_bytes)
                    yield _content(response, target, max_bytes, budget.deadline)
                    return
                target = self._next(response, target)
        raise SourceUnavailableError(f"The URL is redirected more than {MAX_REDIRECTS} times.")

    def post(self, url: str, body: bytes, headers: Headers, *, timeout_seconds: float) -> AnswerStatus:
        """
        Send a body and give the status of the answer, whatever it is; redirects are not followed.

        Raises: InvalidRequestError and AddressRefusedError as `get`; SourceUnavailableError for no answer.
        """
        budget = Budget(Deadline(timeout_seconds), MAX_ANSWER_BYTES + FRAMING_BYTES)
        target = parse_url(url)
        with self._exchange(_request("POST", target, body, headers), target, budget) as response:
            _drain(response, target, budget.deadline)
            status = AnswerStatus(response.status)
            status.retry_after_seconds = _pause(_header(response, b"retry-after"))
            return status

    @contextmanager
    def _exchange(
        self, request: httpcore.Request, target: WebUrl, budget: Budget
    ) -> Iterator[httpcore.Response]:
        self._check_host(target)
        backend = PinnedBackend(target, self._territory, self._resolver, budget)
        with httpcore.ConnectionPool(
            ssl_context=self._ssl_context if target.is_encrypted else None,
            max_connections=1,
            network_backend=backend,
        ) as pool:
            with _translated(target, budget.deadline):
                response = pool.handle_request(request)
            try:
                yield response
            finally:
                response.close()

    def _next(self, response: httpcore.Response, target: WebUrl) -> WebUrl:
        location = _header(response, b"location")
        if not location:
            raise SourceUnavailableError(f"{target.origin} redirects to nowhere.")
        following = target.joined(location)
        if target.is_encrypted and not following.is_encrypted:
            raise AddressRefusedError(f"{target.origin} redirects from https:// to http://.")
        return following

    def _check_host(self, url: WebUrl) -> None:
        """Refuse what needs no look-up to be refused."""
        if url.address:
            self._territory.check([url.address], is_encrypted=url.is_encrypted)
        elif url.host.rpartition(".")[2] in _LOCALHOST and not self._territory.private_networks:
            raise AddressRefusedError("The URL leads to this machine itself.")


def _request(
    method: str, url: WebUrl, body: bytes | None = None, headers: Headers | None = None
) -> httpcore.Request:
    given = {
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **(headers or {}),
        **({} if body is None else {"Content-Length": str(len(body))}),
        "Host": url.authority,
        "User-Agent": _user_agent(),
    }
    return httpcore.Request(
        method,
        httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
        headers=list(given.items()),
        content=body,
    )


def _user_agent() -> str:
    try:
        return f"image-processor/{version('image-processor')}"
    except PackageNotFoundError:
        return "image-processor"


def _header(response: httpcore.Response, name: bytes) -> str:
    values = [value for known, value in response.headers if known.lower() == name]
    return b",".join(values).decode("utf-8", "replace").strip()


def _check_content(response: httpcore.Response, url: WebUrl, max_bytes: int) -> None:
    """Nothing, if the answer's head promises the content, whole, as it is, and not too much of it."""
    status = response.status
    if status not in _CONTENT:
        if 400 <= status < 500 and status not in _PASSING:
            raise SourceNotFoundError(f"{url.origin} does not give the input: it answers {status}.")
        raise SourceUnavailableError(f"{url.origin} answers {status}.")
    if _header(response, b"content-encoding").lower() not in ("", "identity"):
        raise SourceNotFoundError(f"{url.origin} gives the input only compressed, which was not asked for.")
    length = _header(response, b"content-length")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _content(response: httpcore.Response, url: WebUrl, max_bytes: int, deadline: Deadline) -> Iterator[bytes]:
    received = 0
    with _translated(url, deadline):
        for chunk in response.iter_stream():
            received += len(chunk)
            if received > max_bytes:
                raise _too_large(max_bytes)
            yield chunk


def _drain(response: httpcore.Response, url: WebUrl, deadline: Deadline) -> None:
    received = 0
    with _translated(url, deadline):
        for chunk in response.iter_stream():
            received += len(chunk)
            if received >= MAX_ANSWER_BYTES:
                return


def _pause(text: str) -> float | None:
    """What `Retry-After` says, which is seconds or a date (RFC 9110, 10.2.3)."""
    if text.isascii() and text.isdecimal():
        return min(float(text[:20]), MAX_PAUSE_SECONDS)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), MAX_PAUSE_SECONDS)


def _too_large(max_bytes: int) -> FileTooLargeError:
    return FileTooLargeError(f"The file is larger than {max_bytes / MIB:g} MB.", max_bytes=max_bytes)


@contextmanager
def _translated(url: WebUrl, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise deadline.passed() from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise SourceUnavailableError(f"{url.origin} {_fault(error)}.") from error


def _fault(error: Exception) -> str:
    match error.args[:1]:
        case [ssl.SSLCertVerificationError() as cause]:
            return f"has no valid certificate: {cause.verify_message}"
        case [ssl.SSLError()]:
            return "does not speak TLS as it should"
        case _ if isinstance(error, httpcore.ProtocolError):
            return "gave no whole HTTP answer"
        case _:
            return "cannot be reached, or broke off"
