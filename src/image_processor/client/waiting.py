"""Waiting for a job: by its event stream, and by polling where there is none."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

from image_processor.client.answers import JobStatus, Thumbnails, read_json
from image_processor.client.calls import Caller
from image_processor.client.listening import EventReader
from image_processor.client.plans import Close, Pause, Plan, Read, Reply, Request
from image_processor.client.refusals import UnexpectedAnswerError, WaitTimeoutError
from image_processor.client.retries import NEVER, asked_pause
from image_processor.errors import ImageProcessorError

OnStatus = Callable[[JobStatus], None]
OnThumbnails = Callable[[Thumbnails], None]
Status = TypeVar("Status", JobStatus, Thumbnails)

SILENCE_SECONDS = 20.0
"""The service says something every 15 s; a stream that is silent for longer is broken."""
FIRST_SILENCE_SECONDS = 5.0
"""It says something at once; a proxy that holds it back is found out so soon."""
SHORTEST_SILENCE_SECONDS = 1.0
MAX_DEAF_STREAMS = 2
"""In a row, from which nothing came; then there is only polling."""
POLL_SECONDS = 0.25
LONGEST_POLL_SECONDS = 5.0
LAST_POLL_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
"""What `Retry-After` may make of a pause between two polls; a service that is back is seen so soon."""
PASSING = (429, 502, 503, 504)
"""Statuses of a service, or of a proxy before it, that is asked again."""


class Waiting(Generic[Status]):
    """
    Waits for one job.

    The stream is only a faster way to learn what polling tells. No fault of it ends the waiting: the poll
    that follows says what is wrong with a token or an id. A service that is down is waited for too.

    Args:
        caller: sends the requests.
        kind: of its status.
        path: of its status.
        seconds: how long is waited.
        on_status: is told of each new status.
    """

    def __init__(
        self,
        caller: Caller,
        kind: type[Status],
        path: str,
        seconds: float,
        on_status: Callable[[Status], None] | None,
    ) -> None:
        self._ends_at = time.monotonic() + seconds
        self._caller = replace(caller, retries=NEVER)
        self._kind: type[Status] = kind
        self._path = path
        self._on_status: Callable[[Status], None] | None = on_status
        self._events = EventReader()
        self._deaf_streams = 0
        self._polls = 0
        self._failure: ImageProcessorError | None = None
        """Why the last poll told nothing."""
        self._last: Status | None = None

    def until_final(self, *, by_events: bool) -> Plan[Status]:
        """Its last status, once it has come to rest. Raises WaitTimeoutError, and what a poll raises."""
        while True:
            if by_events and self._may_listen:
                yield from self._listen()
            if not self._is_final:
                yield from self._poll()
            if self._last is not None and self._last.is_final:
                return self._last
            yield Pause(self._pause())

    @property
    def _may_listen(self) -> bool:
        """Not to a service that is down: what fails then says nothing of streams."""
        return (
            self._failure is None
            and self._deaf_streams < MAX_DEAF_STREAMS
            and self._remaining > SHORTEST_SILENCE_SECONDS
        )

    @property
    def _is_final(self) -> bool:
        return self._last is not None and self._last.is_final

    @property
    def _remaining(self) -> float:
        return self._ends_at - time.monotonic()

    def _pause(self) -> float:
        if self._remaining <= 0:
            late = WaitTimeoutError(
                "The job did not come to rest in time; it goes on.", status_url=self._path
            )
            raise late from self._failure
        longest = min(POLL_SECONDS * 2.0**self._polls, LONGEST_POLL_SECONDS)
        self._polls += 1
        return min(max(longest, self._asked), self._remaining)

    @property
    def _asked(self) -> float:
        """How long the service asks to wait."""
        if self._failure is not None:
            return min(asked_pause(self._failure), LONGEST_RETRY_SECONDS)
        return 0.0 if self._deaf_streams else self._events.retry_seconds

    @property
    def _asking(self) -> Caller:
        """Who asks now; the last question has a moment to be answered, too."""
        return self._caller.until(max(self._ends_at, time.monotonic() + LAST_POLL_SECONDS))

    def _poll(self) -> Plan[None]:
        try:
            status = yield from self._asking.get(self._kind, self._path)
        except ImageProcessorError as error:
            if error.status not in PASSING or isinstance(error, UnexpectedAnswerError):
                raise
            self._failure = error
            return
        if self._failure is not None:
            self._failure, self._deaf_streams = None, 0
        self._tell(status)

    def _tell(self, status: Status) -> None:
        is_new, self._last = status != self._last, status
        if is_new and self._on_status:
            self._on_status(status)

    def _listen(self) -> Plan[None]:
        """Hear the events of one stream, however it ends."""
        self._deaf_streams += 1
        usual = SILENCE_SECONDS if self._last else FIRST_SILENCE_SECONDS
        silence = max(SHORTEST_SILENCE_SECONDS, min(usual, self._remaining / 2))
        try:
            reply = yield from self._asking.open(self._request(silence))
        except ImageProcessorError:
            return
        with suppress(ImageProcessorError):
            if reply.headers.get("content-type", "").startswith("text/event-stream"):
                yield from self._hear(reply, silence)
        yield Close(reply)

    def _request(self, silence: float) -> Request:
        seen = {"Last-Event-ID": self._events.last_id} if self._events.last_id else {}
        headers = {"Accept": "text/event-stream", **seen}
        return Request("GET", f"{self._path}/events", headers, silence_seconds=silence)

    def _hear(self, reply: Reply, silence: float) -> Plan[None]:
        """Until the last event, the end of the stream, or so near the end of time that it could pass it."""
        self._events.begin()
        while not self._is_final and self._remaining > silence and (piece := (yield Read(reply))):
            self._deaf_streams = 0
            for event in self._events.feed(piece):
                self._polls = 0
                self._tell(read_json(self._kind, event.data))
