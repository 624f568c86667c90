"""Who performs plans over httpx, waiting or awaiting. Only this module knows httpx."""

import importlib
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from image_processor.client.bodies import Body
from image_processor.client.plans import (
    Close,
    Course,
    Give,
    Open,
    Pause,
    Plan,
    Read,
    Reply,
    Request,
    Run,
    Step,
)
from image_processor.client.refusals import UnreachableError
from image_processor.errors import InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    import httpx

Value = TypeVar("Value")
NO_PIECE = (b"", 0)
CREDENTIALS = ("Authorization", "Cookie")


def load_httpx() -> Any:
    """The module. Raises MissingExtraError without the extra `client`."""
    try:
        return importlib.import_module("httpx")
    except ImportError as error:
        raise MissingExtraError(
            "The client needs httpx, which the extra 'client' installs: pip install image-processor[client]."
        ) from error


class Performer:
    """Performs plans, waiting for each step."""

    def __init__(self, client: "httpx.Client") -> None:
        self._client = client

    def run(self, plan: Plan[Value]) -> Value:
        """The value of a plan that gives no others."""
        course = Course(plan)
        for _ in self.give(course):
            pass
        return course.value

    def give(self, course: Course[Any]) -> Generator[Any, None, None]:
        """What a plan gives on its way. However that ends, its replies are closed."""
        replies: list[Reply] = []
        try:
            while (step := course.step) is not None:
                if isinstance(step, Give):
                    yield step.value
                with course.performing() as give_back:
                    give_back(self._perform(step, replies))
        finally:
            course.close()
            for reply in replies:
                reply.response.close()

    def _perform(self, step: Step, replies: list[Reply]) -> object:
        match step:
            case Open(request):
                replies.append(self._open(request))
                return replies[-1]
            case Read(reply):
                check_time(reply.ends_at)
                with translated():
                    return next(reply.pieces, b"")
            case Close(reply):
                replies.remove(reply)
                reply.response.close()
            case Pause(seconds):
                time.sleep(seconds)
            case Run(function):
                return function()
        return None

    def _open(self, request: Request) -> Reply:
        body = _sent(request.body, request.ends_at) if isinstance(request.body, Body) else request.body
        with translated():
            built = _built(self._client, request, body)
            response = self._client.send(built, stream=True, auth=None, follow_redirects=False)
        return Reply(response.status_code, _lower(response), response.iter_raw(), response, request.ends_at)


class AsyncPerformer:
    """Performs plans, awaiting each step; files are read and written in threads."""

    def __init__(self, client: "httpx.AsyncClient") -> None:
        self._client = client
        self._anyio = importlib.import_module("anyio")
        """Comes with httpx."""

    async def run(self, plan: Plan[Value]) -> Value:
        """The value of a plan that gives no others."""
        course = Course(plan)
        async with aclosing(self.give(course)) as given:
            async for _ in given:
                pass
        return course.value

    async def give(self, course: Course[Any]) -> AsyncGenerator[Any, None]:
        """What a plan gives on its way. However that ends, its replies are closed."""
        replies: list[Reply] = []
        try:
            while (step := course.step) is not None:
                if isinstance(step, Give):
                    yield step.value
                with course.performing() as give_back:
                    give_back(await self._perform(step, replies))
        finally:
            course.close()
            for reply in replies:
                await self._close(reply)

    async def _perform(self, step: Step, replies: list[Reply]) -> object:
        match step:
            case Open(request):
                replies.append(await self._open(request))
                return replies[-1]
            case Read(reply):
                check_time(reply.ends_at)
                with translated():
                    return await anext(reply.pieces, b"")
            case Close(reply):
                replies.remove(reply)
                await self._close(reply)
            case Pause(seconds):
                await self._anyio.sleep(seconds)
            case Run(function):
                answer = await self._anyio.to_thread.run_sync(function)
                return await answer if inspect.isawaitable(answer) else answer
        return None

    async def _open(self, request: Request) -> Reply:
        body = self._sent(request.body, request.ends_at) if isinstance(request.body, Body) else request.body
        with translated():
            built = _built(self._client, request, body)
            response = await self._client.send(built, stream=True, auth=None, follow_redirects=False)
        return Reply(response.status_code, _lower(response), response.aiter_raw(), response, request.ends_at)

    async def _close(self, reply: Reply) -> None:
        """Also where the task was cancelled, in which nothing else can be awaited any more."""
        with self._anyio.CancelScope(shield=True):
            await reply.pieces.aclose()
            await reply.response.aclose()

    async def _sent(self, body: Body, ends_at: float | None) -> AsyncIterator[bytes]:
        with closing(body.pieces()) as pieces:
            while (found := await self._anyio.to_thread.run_sync(next, pieces, NO_PIECE)) is not NO_PIECE:
                piece, sent = found
                check_time(ends_at)
                yield piece
                body.tell(sent)


def _sent(body: Body, ends_at: float | None) -> Iterator[bytes]:
    with closing(body.pieces()) as pieces:
        for piece, sent in pieces:
            check_time(ends_at)
            yield piece
            body.tell(sent)


def _built(
    client: "httpx.Client | httpx.AsyncClient",
    request: Request,
    content: bytes | Iterator[bytes] | AsyncIterator[bytes],
) -> "httpx.Request":
    headers = {"Accept-Encoding": "identity", **request.headers}
    if isinstance(request.body, Body) and request.body.size is not None:
        headers["Content-Length"] = str(request.body.size)
    try:
        built = client.build_request(
            request.method, request.url, params=dict(request.params) or None, headers=headers, content=content
        )
    except UnicodeError as error:
        raise InvalidRequestError("The request cannot be sent: a header of it is not ASCII.") from error
    if "Authorization" not in headers:
        # What goes elsewhere takes nothing along that an httpx client of the caller's may add to all.
        for name in CREDENTIALS:
            built.headers.pop(name, None)
    built.extensions["timeout"] |= _silences(built.extensions["timeout"], request)
    return built


def _silences(usual: Mapping[str, float | None], request: Request) -> dict[str, float]:
    """How long each part of the exchange may take, where that is less than usual."""
    left = inf if request.ends_at is None else request.ends_at - time.monotonic()
    read = inf if request.silence_seconds is None else request.silence_seconds
    asked = {name: min(left, read) if name == "read" else left for name in usual}
    if left <= 0:
        raise _out_of_time()
    return {
        name: min(seconds, inf if (most := usual[name]) is None else most)
        for name, seconds in asked.items()
        if seconds < inf
    }


def check_time(ends_at: float | None) -> None:
    """Raise UnreachableError where there is no more time."""
    if ends_at is not None and time.monotonic() > ends_at:
        raise _out_of_time()


def _out_of_time() -> UnreachableError:
    return UnreachableError("The answer of the service was not complete within the time for it.")


def _lower(response: "httpx.Response") -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


@contextmanager
def translated() -> Iterator[None]:
    """
    Faults of the connection as UnreachableError.

    Raises InvalidRequestError for what cannot be said in HTTP, such as an address that is none.
    """
    httpx = load_httpx()
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise InvalidRequestError("The request cannot be sent: its address or a header is none.") from error
    except httpx.RequestError as error:
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        lost = UnreachableError(_sentence(error, httpx, unsent=unsent))
        lost.was_sent = not unsent
        raise lost from error


def _sentence(error: Exception, httpx: Any, *, unsent: bool) -> str:
    if isinstance(error, httpx.PoolTimeout):
        return "All connections of the client are in use."
    if unsent:
        return "The service cannot be reached."
    if isinstance(error, httpx.TimeoutException):
        return "The service did not answer in time."
    return "The connection to the service broke before its answer was complete."
