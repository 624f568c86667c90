"""The two clients: the same operations, waited for or awaited."""

import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    get_args,
    overload,
)
from urllib.parse import urlsplit

from image_processor.client.calls import Caller, Token
from image_processor.client.operations import Operations
from image_processor.client.performers import AsyncPerformer, Performer, load_httpx
from image_processor.client.plans import Course, Plan, Series
from image_processor.client.retries import Retries
from image_processor.errors import InvalidRequestError

if TYPE_CHECKING:
    import httpx

FilePath = str | os.PathLike[str]
Asked = ParamSpec("Asked")
Method = TypeVar("Method", bound=Callable[..., Any])
Value = TypeVar("Value")
Item = TypeVar("Item")
USUAL_RETRIES = Retries()
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
Client = TypeVar("Client", "httpx.Client", "httpx.AsyncClient")
Transport = TypeVar("Transport", "httpx.BaseTransport", "httpx.AsyncBaseTransport")


def waited(
    plan: Callable[Concatenate[Operations, Asked], Plan[Value]],
) -> Callable[Concatenate["ImageProcessorClient", Asked], Value]:
    """The operation as a method that returns when it is done."""

    def method(self: "ImageProcessorClient", /, *args: Asked.args, **kwargs: Asked.kwargs) -> Value:
        return self._performer.run(plan(self._operations, *args, **kwargs))

    return _described(method, plan)


def iterated(
    series: Callable[Concatenate[Operations, Asked], Series[Item]],
) -> Callable[Concatenate["ImageProcessorClient", Asked], Iterator[Item]]:
    """The operation as a method that gives one value after the other."""

    def method(self: "ImageProcessorClient", /, *args: Asked.args, **kwargs: Asked.kwargs) -> Iterator[Item]:
        return self._performer.give(Course(series(self._operations, *args, **kwargs).plan))

    return _described(method, series)


def awaited(
    plan: Callable[Concatenate[Operations, Asked], Plan[Value]],
) -> Callable[Concatenate["AsyncImageProcessorClient", Asked], Coroutine[Any, Any, Value]]:
    """The operation as a method to be awaited."""

    async def method(
        self: "AsyncImageProcessorClient", /, *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Value:
        return await self._performer.run(plan(self._operations, *args, **kwargs))

    return _described(method, plan)


def iterated_later(
    series: Callable[Concatenate[Operations, Asked], Series[Item]],
) -> Callable[Concatenate["AsyncImageProcessorClient", Asked], AsyncIterator[Item]]:
    """The operation as a method whose values are awaited one after the other."""

    def method(
        self: "AsyncImageProcessorClient", /, *args: Asked.args, **kwargs: Asked.kwargs
    ) -> AsyncIterator[Item]:
        return self._performer.give(Course(series(self._operations, *args, **kwargs).plan))

    return _described(method, series)


def _described(method: Method, operation: Callable[..., Any]) -> Method:
    """The method with the operation's name, text and signature: what editors and `help` show."""
    method.__doc__, method.__name__ = operation.__doc__, operation.__name__
    signature = inspect.signature(operation)
    value = get_args(signature.return_annotation)[-1]
    method.__signature__ = signature.replace(return_annotation=value)  # type: ignore[attr-defined]
    return method


def _checked_url(base_url: str) -> str:
    """The service's address without the slash at its end. Raises InvalidRequestError."""
    try:
        parts = urlsplit(base_url)
        is_sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        is_sound = False
    if not is_sound or parts.query or parts.fragment:
        raise InvalidRequestError(
            "The address of the service is http:// or https://, a host, and maybe a path."
        )
    if parts.username is not None:
        raise InvalidRequestError("The address of the service has no user name in it: there is a token.")
    return base_url.rstrip("/")


class Face(Generic[Client, Transport]):
    """
    What both clients begin with.

    Args:
        base_url: of the service, such as `https://images.example.com`.
        token: the user's, or what gives it and is called for each request; an `async def` is for the async
            client alone.
        timeout: seconds for which the service may be silent while it takes or gives an answer.
        connect_timeout: seconds in which a connection has to be made.
        deadline: seconds for one request with all its attempts and pauses, however long its file is; None:
            no end but that of the retries. `wait` has its own.
        retries: how patient the client is with a service that is down.
        http_client: sends the requests in place of one of ours, with its own timeouts; it is not closed.
            Its `auth` is not used, redirects are not followed.
        transport: of our own client.

    Raises:
        InvalidRequestError: the address is none.
        MissingExtraError: the extra `client` is not installed.
    """

    _HTTPX_NAME: ClassVar[str]

    def __init__(  # noqa: PLR0913 - keywords with defaults
        self,
        base_url: str,
        token: Token,
        *,
        timeout: float = TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_SECONDS,
        deadline: float | None = None,
        retries: Retries = USUAL_RETRIES,
        http_client: Client | None = None,
        transport: Transport | None = None,
    ) -> None:
        httpx = load_httpx()
        url = _checked_url(base_url)
        self._operations = Operations(Caller(base_url=url, token=token, retries=retries, deadline=deadline))
        self._is_ours = http_client is None
        new_client = getattr(httpx, self._HTTPX_NAME)
        silence = httpx.Timeout(timeout, connect=connect_timeout)
        self._client: Client = http_client or new_client(timeout=silence, transport=transport)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._operations.caller.base_url}>"


class ImageProcessorClient(Face["httpx.Client", "httpx.BaseTransport"]):
    """The service, for programs that wait. Any number of threads may share one; close it, or use `with`."""

    _HTTPX_NAME = "Client"

    upload = waited(Operations.upload)
    upload_many = waited(Operations.upload_many)
    upload_directly = waited(Operations.upload_directly)
    open_upload = waited(Operations.open_upload)
    complete_upload = waited(Operations.complete_upload)
    upload_state = waited(Operations.upload_state)
    wait = waited(Operations.wait)
    status = waited(Operations.status)
    result = waited(Operations.result)
    image = waited(Operations.image)
    urls = waited(Operations.urls)
    images = iterated(Operations.images)
    batch = waited(Operations.batch)
    delete = waited(Operations.delete)
    upload_for_thumbnails = waited(Operations.upload_for_thumbnails)
    thumbnails = waited(Operations.thumbnails)
    wait_for_thumbnails = waited(Operations.wait_for_thumbnails)
    submit_job = waited(Operations.submit_job)
    job = waited(Operations.job)
    jobs = iterated(Operations.jobs)
    failed = iterated(Operations.failed)
    retry = waited(Operations.retry)
    cancel = waited(Operations.cancel)
    deliveries = waited(Operations.deliveries)
    replay = waited(Operations.replay)
    health = waited(Operations.health)
    statistics = waited(Operations.statistics)
    failed_of_all = iterated(Operations.failed_of_all)

    @overload
    def download(self, image_id: str, size: str | None = None) -> bytes: ...
    @overload
    def download(self, image_id: str, size: str | None = None, *, to: FilePath) -> Path: ...
    def download(self, image_id: str, size: str | None = None, *, to: FilePath | None = None) -> bytes | Path:
        """
        The bytes of one variant, `medium` if no name is given; with `to`, the path of the file they are in.

        The file is written whole or not at all, and replaces one that is there; its folder must exist.
        Raises as `result`, and NotFoundError, StorageFullError, StorageError for the file.
        """
        return self._performer.run(self._operations.download(image_id, size, to=to))

    @property
    def _performer(self) -> Performer:
        return Performer(self._client)

    def close(self) -> None:
        """Give the connections back; again: nothing."""
        if self._is_ours:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncImageProcessorClient(Face["httpx.AsyncClient", "httpx.AsyncBaseTransport"]):
    """The same for programs that await; files are read and written in threads."""

    _HTTPX_NAME = "AsyncClient"

    upload = awaited(Operations.upload)
    upload_many = awaited(Operations.upload_many)
    upload_directly = awaited(Operations.upload_directly)
    open_upload = awaited(Operations.open_upload)
    complete_upload = awaited(Operations.complete_upload)
    upload_state = awaited(Operations.upload_state)
    wait = awaited(Operations.wait)
    status = awaited(Operations.status)
    result = awaited(Operations.result)
    image = awaited(Operations.image)
    urls = awaited(Operations.urls)
    images = iterated_later(Operations.images)
    batch = awaited(Operations.batch)
    delete = awaited(Operations.delete)
    upload_for_thumbnails = awaited(Operations.upload_for_thumbnails)
    thumbnails = awaited(Operations.thumbnails)
    wait_for_thumbnails = awaited(Operations.wait_for_thumbnails)
    submit_job = awaited(Operations.submit_job)
    job = awaited(Operations.job)
    jobs = iterated_later(Operations.jobs)
    failed = iterated_later(Operations.failed)
    retry = awaited(Operations.retry)
    cancel = awaited(Operations.cancel)
    deliveries = awaited(Operations.deliveries)
    replay = awaited(Operations.replay)
    health = awaited(Operations.health)
    statistics = awaited(Operations.statistics)
    failed_of_all = iterated_later(Operations.failed_of_all)

    @overload
    async def download(self, image_id: str, size: str | None = None) -> bytes: ...
    @overload
    async def download(self, image_id: str, size: str | None = None, *, to: FilePath) -> Path: ...
    async def download(
        self, image_id: str, size: str | None = None, *, to: FilePath | None = None
    ) -> bytes | Path:
        """As ImageProcessorClient.download."""
        return await self._performer.run(self._operations.download(image_id, size, to=to))

    @property
    def _performer(self) -> AsyncPerformer:
        return AsyncPerformer(self._client)

    async def close(self) -> None:
        """Give the connections back; again: nothing."""
        if self._is_ours:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
