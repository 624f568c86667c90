"""One request and its answer, sent again where that helps; what all operations are made of."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from image_processor.client.answers import Answer, read_json
from image_processor.client.bodies import Body
from image_processor.client.plans import Close, Open, Pause, Plan, Read, Reply, Request, Run
from image_processor.client.refusals import UnexpectedAnswerError, refusal
from image_processor.client.retries import Patience, Retries
from image_processor.errors import ImageProcessorError, InvalidRequestError

Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=Answer)
Token = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""Or what gives one, and is called for each request; an awaitable one is for the async client alone."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_REFUSAL_BYTES = 256 * 1024
PLAIN = ("", "identity")
"""What is asked for and taken as a Content-Encoding: packed answers could be any size once unpacked."""
SENT_ONCE = "The source is a stream that cannot be rewound, so it was not sent again."


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Caller:
    """
    Sends requests to one service, in the name of one user.

    Every method is a plan, and raises what `refusal` makes of an answer that is no success,
    UnreachableError and UnexpectedAnswerError.
    """

    base_url: str
    token: Token = field(repr=False)
    retries: Retries
    deadline: float | None = None
    """The seconds for one request with all its attempts."""
    ends_at: float | None = None
    """On the monotonic clock: when there is no more time, for whatever is asked."""

    def get(self, kind: type[Kind], path: str, params: Mapping[str, str] | None = None) -> Plan[Kind]:
        """What the service has at this path."""
        return (yield from self.ask(kind, Request("GET", path, params=params or {})))

    def post(self, kind: type[Kind], path: str, **options: bool) -> Plan[Kind]:
        """What comes of asking for it, with nothing in the body."""
        return (yield from self.ask(kind, Request("POST", path), **options))

    def ask(self, kind: type[Kind], request: Request, **options: bool) -> Plan[Kind]:
        """The answer as such a value."""
        answer = yield from self.call(request, **options)
        return read_json(kind, answer.body)

    def call(self, request: Request, *, repeats_lost: bool = True) -> Plan[Whole]:
        """The whole answer."""

        def attempt(caller: Caller) -> Plan[Whole]:
            reply = yield from caller.open(request)
            body = yield from read_whole(reply)
            return Whole(status=reply.status, headers=reply.headers, body=body)

        body = request.body
        return (
            yield from self.persist(
                attempt,
                repeats_lost=repeats_lost,
                can_repeat=lambda: not isinstance(body, Body) or body.is_repeatable,
            )
        )

    def persist(
        self,
        attempt: Callable[["Caller"], Plan[Value]],
        *,
        repeats_lost: bool = True,
        can_repeat: Callable[[], bool] = lambda: True,
    ) -> Plan[Value]:
        """What comes of the attempt, made again for as long as the retries and the deadline say."""
        caller = self.begun()
        patience = Patience(self.retries, repeats_lost=repeats_lost, ends_at=caller.ends_at)
        while True:
            try:
                return (yield from attempt(caller))
            except ImageProcessorError as error:
                pause = patience.pause_after(error)
                if pause is None:
                    raise
                if not can_repeat():
                    error.add_note(SENT_ONCE)
                    raise
            yield Pause(pause)

    def begun(self) -> "Caller":
        """The same with its deadline running."""
        if self.deadline is None:
            return self
        return self.until(time.monotonic() + self.deadline)

    def until(self, ends_at: float) -> "Caller":
        """The same, which has no time beyond that either."""
        return replace(self, ends_at=ends_at if self.ends_at is None else min(self.ends_at, ends_at))

    def open(self, request: Request) -> Plan[Reply]:
        """One attempt: the head of an answer that is a success, its body still to be read."""
        addressed = yield from self._addressed(request)
        reply: Reply = yield Open(replace(addressed, ends_at=self.ends_at))
        if not (200 <= reply.status < 300 or reply.status in request.accepted):
            raise refusal(reply.status, reply.headers, (yield from _read_refusal(reply)))
        if reply.headers.get("content-encoding", "").lower() not in PLAIN:
            yield Close(reply)
            raise UnexpectedAnswerError("The service's answer is packed, which was not asked for.")
        return reply

    def _addressed(self, request: Request) -> Plan[Request]:
        """With the service's own address and the user's token; what goes elsewhere gets no token of ours."""
        if not request.url.startswith("/"):
            return request
        token = self.token if isinstance(self.token, str) else (yield Run(self.token))
        headers = {**request.headers, "Authorization": f"Bearer {_checked(token)}"}
        return replace(request, url=self.absolute(request.url), headers=headers)

    def absolute(self, url: str) -> str:
        """The address of a path of the service; others stay as they are."""
        return f"{self.base_url}{url}" if url.startswith("/") else url


def read_whole(reply: Reply, max_bytes: int = MAX_ANSWER_BYTES) -> Plan[bytes]:
    """The body, to its end. Raises UnexpectedAnswerError for one beyond all measure."""
    pieces: list[bytes] = []
    size = 0
    while piece := (yield Read(reply)):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            yield Close(reply)
            raise UnexpectedAnswerError(f"The service's answer is longer than {max_bytes} bytes.")
    yield Close(reply)
    return b"".join(pieces)


def _read_refusal(reply: Reply) -> Plan[bytes]:
    """The body of an answer that is no success; nothing of one that says more than an error has to say."""
    try:
        return (yield from read_whole(reply, MAX_REFUSAL_BYTES))
    except UnexpectedAnswerError:
        return b""


def _checked(token: object) -> str:
    """
    The token, without the end of line that files end with.

    Raises InvalidRequestError; what would refuse it otherwise quotes it in its words.
    """
    text = token.strip() if isinstance(token, str) else ""
    if not (text and text.isascii() and text.isprintable()):
        raise InvalidRequestError("The token is no text of printable ASCII characters.")
    return text


def json_request(method: str, path: str, value: Mapping[str, Any], **headers: str) -> Request:
    """A request with this object, without the fields that are None."""
    body = json.dumps({name: one for name, one in value.items() if one is not None})
    return Request(method, path, {"Content-Type": "application/json", **headers}, body=body.encode())
