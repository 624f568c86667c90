"""What is refused and done over HTTP: one line each, bounded. The jobs' own trail is in the database."""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_processor.errors import (
    AuthenticationError,
    ForbiddenError,
    ImageProcessorError,
    NotFoundError,
    RateLimitError,
    RejectedError,
    TooManyStreamsError,
    UploadAddressError,
    UploadTimeoutError,
)
from image_processor.telemetry import emit


class Event(StrEnum):
    """Everything that is told; docs/reference/audit.md has a row for each."""

    TOKEN_REFUSED = "audit.token.refused"  # noqa: S105 - the name of an event
    SCOPE_REFUSED = "audit.scope.refused"
    ADDRESS_REFUSED = "audit.address.refused"
    ID_REFUSED = "audit.id.refused"
    RATE_REFUSED = "audit.rate.refused"
    REQUEST_REFUSED = "audit.request.refused"
    IMAGE_DELETED = "audit.image.deleted"
    SERVICE_READ = "audit.service.read"
    DELIVERY_REPLAYED = "audit.delivery.replayed"
    LINES_LEFT_OUT = "audit.lines.left_out"


MISSING_SCOPE = "missing_scope"
SOMEBODY_ELSES = "somebody_elses"
NOT_LOOKED_UP = "not_looked_up"
"""So many 404 came that it was not asked any more whose the ids were; in summaries alone."""

REFUSALS: tuple[tuple[type[ImageProcessorError], Event], ...] = (
    (AuthenticationError, Event.TOKEN_REFUSED),
    (ForbiddenError, Event.SCOPE_REFUSED),
    (UploadAddressError, Event.ADDRESS_REFUSED),
    (RateLimitError, Event.RATE_REFUSED),
    (TooManyStreamsError, Event.RATE_REFUSED),
    (UploadTimeoutError, Event.REQUEST_REFUSED),
    (RejectedError, Event.REQUEST_REFUSED),
)
"""What each refusal is told as: the first that fits. Others are our own failures, and no refusals."""

DEEDS_BY_ROUTE: Mapping[tuple[str, str], Event] = {
    ("POST", "/jobs/{job_id}/deliveries/{delivery_id}/replay"): Event.DELIVERY_REPLAYED,
}
DEEDS_BY_SCOPE: Mapping[str, Event] = {"delete": Event.IMAGE_DELETED, "admin": Event.SERVICE_READ}
"""Whatever asks for one of these scopes is told when it is done."""
BOUNDED_DEEDS = frozenset({Event.DELIVERY_REPLAYED})
"""A delivery that still waits may be replayed for ever; of an image there is one deletion."""

WINDOW_SECONDS = 60.0
LINES_EACH = 5
"""Of one event and reason from one sender (address and user) in one window; the rest is counted."""
LINES_TOGETHER = 30
"""The same from all senders: strangers have addresses without number."""
LOOKUPS_EACH = 60
LOOKUPS_TOGETHER = 600

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
PATH_IDS = ("job_id", "image_id", "upload_id", "delivery_id")
MAX_IDS = 50
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")

Kind = tuple[Event, str]
"""An event with its reason: what lines are counted by."""
Owners = Callable[[Collection[str]], Mapping[str, str]]


@dataclass
class Note:
    """What is known of one request beside itself."""

    request_id: str = field(default_factory=lambda: os.urandom(16).hex())
    user_id: str | None = None
    """None until a token held."""
    scope: str | None = None
    """What the route asks for."""
    refusals: list[ImageProcessorError] = field(default_factory=list)
    missing: Sequence[str] = ()
    """Ids in a list that were not found; those in the path need no telling."""


def note_of(request: Request) -> Note:
    """What is noted of this request."""
    note: Note = request.scope.setdefault("audit", Note())
    return note


async def _noted(request: Request) -> Note:
    """The same as a coroutine: FastAPI calls anything else in a thread."""
    return note_of(request)


Noted = Annotated[Note, Depends(_noted)]


class Window:
    """How often each kind was told in the present window, and how often not; bounded in memory."""

    def __init__(self, *, each: int, together: int) -> None:
        self._each = each
        self._together = together
        self._told: Counter[tuple[Kind, object]] = Counter()
        self._in_all: Counter[Kind] = Counter()
        self.left_out: Counter[Kind] = Counter()

    def admits(self, kind: Kind, sender: object) -> bool:
        """Whether this one is to be told. Only senders that were told of are kept."""
        if self._in_all[kind] >= self._together or self._told[kind, sender] >= self._each:
            self.left_out[kind] += 1
            return False
        self._in_all[kind] += 1
        self._told[kind, sender] += 1
        return True


class AuditTrail:
    """Tells of requests, and of how many it did not tell; for one event loop."""

    def __init__(self, owners: Owners, *, now: Callable[[], float] = time.monotonic) -> None:
        self._owners = owners
        self._now = now
        self._begin()

    def _begin(self) -> None:
        self._began_at = self._now()
        self._lines = Window(each=LINES_EACH, together=LINES_TOGETHER)
        self._lookups = Window(each=LOOKUPS_EACH, together=LOOKUPS_TOGETHER)
        self._timer: asyncio.TimerHandle | None = None

    async def tell(self, scope: Scope, note: Note, status: int) -> None:
        """Tell what is worth it of a request that was answered with this status."""
        self._turn()
        facts = _Facts(scope, note, status)
        for event, reason in _refused(note):
            self._tell(event, reason, facts)
        if ids := facts.unknown_ids():
            await self._tell_of_others(ids, facts)
        if (deed := facts.deed()) is not None:
            self._tell(deed, "", facts)

    def _tell(self, event: Event, reason: str, facts: "_Facts", **more: object) -> None:
        is_refused = event.endswith(".refused")
        is_bounded = is_refused or event in BOUNDED_DEEDS
        if is_bounded and not self._lines.admits((event, reason), facts.sender):
            self._count_down()
            return
        outcome = "refused" if is_refused else "done"
        emit(event, outcome=outcome, reason=reason or None, **facts.fields(), **more)

    async def _tell_of_others(self, ids: Sequence[str], facts: "_Facts") -> None:
        if not self._lookups.admits((Event.ID_REFUSED, NOT_LOOKED_UP), facts.sender):
            self._count_down()
            return
        try:
            owners = await asyncio.to_thread(self._owners, ids)
        except ImageProcessorError as error:
            emit("audit.lookup.failed", error=str(error))
            return
        others = [known for known in ids if owners.get(known, facts.user_id) != facts.user_id]
        if others:
            listed = {"image_id": others[0]} if facts.is_list else {}
            self._tell(Event.ID_REFUSED, SOMEBODY_ELSES, facts, **listed, count=len(others))

    def _count_down(self) -> None:
        """See to it that what is left out is told of at the end of the window, also when nobody comes."""
        if self._timer is None:
            left = max(0.0, self._began_at + WINDOW_SECONDS - self._now())
            self._timer = asyncio.get_running_loop().call_later(left, self._turn)

    def _turn(self) -> None:
        if self._now() - self._began_at >= WINDOW_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Tell how many lines were left out, and begin a new window."""
        seconds = round(self._now() - self._began_at)
        for (event, reason), count in (self._lines.left_out + self._lookups.left_out).items():
            emit(
                Event.LINES_LEFT_OUT,
                outcome="counted",
                of=event,
                reason=reason or None,
                count=count,
                seconds=seconds,
            )
        if self._timer is not None:
            self._timer.cancel()
        self._begin()


class Audited:
    """Gives every request an id, and has the trail told how it ended: behind its answer."""

    def __init__(self, app: ASGIApp, trail: AuditTrail) -> None:
        self._app = app
        self._trail = trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with `X-Request-ID`."""
        if scope["type"] != "http":
            try:
                await self._app(scope, receive, send)
            finally:
                self._trail.flush()
            return
        note = scope["audit"] = Note()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = note.request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
        await self._trail.tell(scope, note, status)


def _refused(note: Note) -> Iterator[Kind]:
    for error in note.refusals:
        event = next((event for kind, event in REFUSALS if isinstance(error, kind)), None)
        if event is not None:
            yield event, _reason(error)


def _reason(error: ImageProcessorError) -> str:
    match error:
        case AuthenticationError():
            return error.fault
        case ForbiddenError():
            return MISSING_SCOPE
        case _:
            return error.code


@dataclass(frozen=True)
class _Facts:
    """What a line says of a request: of what a stranger wrote, ids of our form and a checked user alone."""

    scope: Scope
    note: Note
    status: int

    @property
    def user_id(self) -> str | None:
        return self.note.user_id

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method if method in METHODS else "other"

    @property
    def route(self) -> str | None:
        return getattr(self.scope.get("route"), "path_format", None)

    @property
    def address(self) -> str | None:
        """As uvicorn has it: behind a proxy that it trusts, the proxy's word."""
        client = self.scope.get("client")
        try:
            return str(ip_address(client[0].partition("%")[0])) if client else None
        except ValueError:
            return None

    @property
    def sender(self) -> object:
        return self.address, self.user_id

    @property
    def is_list(self) -> bool:
        """Whether the ids stood in a list, and not in the path."""
        return bool(self.note.missing)

    def path_ids(self) -> dict[str, str]:
        given = self.scope.get("path_params", {})
        return {name: given[name] for name in PATH_IDS if _ID.fullmatch(str(given.get(name, "")))}

    def unknown_ids(self) -> list[str]:
        """Ids of a known user's request that were answered with: there is no such thing."""
        if self.user_id is None:
            return []
        if self.is_list:
            return [unknown for unknown in self.note.missing[:MAX_IDS] if _ID.fullmatch(unknown)]
        is_missing = any(isinstance(error, NotFoundError) for error in self.note.refusals)
        return list(self.path_ids().values()) if is_missing else []

    def deed(self) -> Event | None:
        """What was done, if it is one to be told and was done."""
        if not 200 <= self.status < 300:
            return None
        by_route = DEEDS_BY_ROUTE.get((self.method, self.route or ""))
        return by_route or DEEDS_BY_SCOPE.get(self.note.scope or "")

    def fields(self) -> dict[str, Any]:
        return {
            "request_id": self.note.request_id,
            "user_id": self.user_id,
            "scope": self.note.scope,
            "method": self.method,
            "route": self.route,
            "http_status": self.status,
            "address": self.address,
            **self.path_ids(),
        }
