"""Who performs plans over httpx, waiting or awaiting. Only this module knows httpx."""

import importlib
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
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
from image_processor.errors import MissingExtraError

if TYPE_CHECKING:
    import httpx

Value = TypeVar("Value")
NO_PIECE = (b"", 0)


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
        body = _sent(request.body) if isinstance(request.body, Body) else request.body
        with translated():
            response = self._client.send(_built(self._client, request, body), stream=True)
        return Reply(response.status_code, _lower(response), response.iter_bytes(), response)


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
        body = self._sent(request.body) if isinstance(request.body, Body) else request.body
        with translated():
            response = await self._client.send(_built(self._client, request, body), stream=True)
        return Reply(response.status_code, _lower(response), response.aiter_bytes(), response)

    async def _close(self, reply: Reply) -> None:
        """Also where the task was cancelled, in which nothing else can be awaited any more."""
        with self._anyio.CancelScope(shield=True):
            await reply.pieces.aclose()
            await reply.response.aclose()

    async def _sent(self, body: Body) -> AsyncIterator[bytes]:
        with closing(body.pieces()) as pieces:
            while (found := await self._anyio.to_thread.run_sync(next, pieces, NO_PIECE)) is not NO_PIECE:
                piece, sent = found
                yield piece
                body.tell(piece, sent)


def _sent(body: Body) -> Iterator[bytes]:
    with closing(body.pieces()) as pieces:
        for piece, sent in pieces:
            yield piece
            body.tell(piece, sent)


def _built(
    client: "httpx.Client | httpx.AsyncClient",
    request: Request,
    content: bytes | Iterator[bytes] | AsyncIterator[bytes],
) -> "httpx.Request":
    headers = dict(request.headers)
    if isinstance(request.body, Body) and request.body.size is not None:
        headers["Content-Length"] = str(request.body.size)
    built = client.build_request(
        request.method, request.url, params=dict(request.params) or None, headers=headers, content=content
    )
    if request.silence_seconds is not None:
        built.extensions["timeout"] |= {"read": request.silence_seconds}
    return built


def _lower(response: "httpx.Response") -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


@contextmanager
def translated() -> Iterator[None]:
    """Faults of the connection as UnreachableError."""
    httpx = load_httpx()
    try:
        yield
    except httpx.RequestError as error:
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        lost = UnreachableError(_sentence(error, httpx, unsent=unsent))
        lost.was_sent = not unsent
        raise lost from error


def _sentence(error: Exception, httpx: Any, *, unsent: bool) -> str:
    if unsent:
        return "The service cannot be reached."
    if isinstance(error, httpx.TimeoutException):
        return "The service did not answer in time."
    return "The connection to the service broke before its answer was complete."
