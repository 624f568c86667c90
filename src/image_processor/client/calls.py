"""One request and its answer, sent again where that helps; what all operations are made of."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from image_processor.client.answers import Answer, read_json
from image_processor.client.bodies import Body
from image_processor.client.plans import Close, Open, Pause, Plan, Read, Reply, Request, Run
from image_processor.client.refusals import UnexpectedAnswerError, refusal
from image_processor.client.retries import Patience, Retries
from image_processor.errors import ImageProcessorError

Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=Answer)
Token = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""Or what gives one, and is called for each request; an awaitable one is for the async client alone."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An answer that was read to its end."""

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

        def attempt() -> Plan[Whole]:
            reply = yield from self.open(request)
            body = yield from read_whole(reply)
            return Whole(headers=reply.headers, body=body)

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
        attempt: Callable[[], Plan[Value]],
        *,
        repeats_lost: bool = True,
        can_repeat: Callable[[], bool] = lambda: True,
    ) -> Plan[Value]:
        """What comes of the attempt, made again for as long as the retries say."""
        patience = Patience(self.retries, repeats_lost=repeats_lost)
        while True:
            try:
                return (yield from attempt())
            except ImageProcessorError as error:
                pause = patience.pause_after(error)
                if pause is None or not can_repeat():
                    raise
            yield Pause(pause)

    def open(self, request: Request) -> Plan[Reply]:
        """One attempt: the head of an answer that is a success, its body still to be read."""
        reply: Reply = yield Open((yield from self._addressed(request)))
        if 200 <= reply.status < 300:
            return reply
        body = yield from read_whole(reply)
        raise refusal(reply.status, reply.headers, body)

    def _addressed(self, request: Request) -> Plan[Request]:
        """With the service's own address and the user's token; what goes elsewhere gets no token of ours."""
        if not request.url.startswith("/"):
            return request
        token = self.token if isinstance(self.token, str) else (yield Run(self.token))
        headers = {**request.headers, "Authorization": f"Bearer {token}"}
        return replace(request, url=self.absolute(request.url), headers=headers)

    def absolute(self, url: str) -> str:
        """The address of a path of the service; others stay as they are."""
        return f"{self.base_url}{url}" if url.startswith("/") else url


def read_whole(reply: Reply) -> Plan[bytes]:
    """The body, to its end. Raises UnexpectedAnswerError for one beyond all measure."""
    pieces: list[bytes] = []
    size = 0
    while piece := (yield Read(reply)):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise UnexpectedAnswerError("The service's answer does not end.")
    yield Close(reply)
    return b"".join(pieces)


def json_request(method: str, path: str, value: Mapping[str, Any], **headers: str) -> Request:
    """A request with this object, without the fields that are None."""
    body = json.dumps({name: one for name, one in value.items() if one is not None})
    return Request(method, path, {"Content-Type": "application/json", **headers}, body=body.encode())
