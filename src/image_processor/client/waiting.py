"""Waiting for a job: by its event stream, and by polling where there is none."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from image_processor.client.answers import JobStatus, read_json
from image_processor.client.calls import Caller
from image_processor.client.listening import EventReader
from image_processor.client.plans import Close, Pause, Plan, Read, Reply, Request
from image_processor.client.refusals import WaitTimeoutError
from image_processor.errors import ImageProcessorError

OnStatus = Callable[[JobStatus], None]

SILENCE_SECONDS = 20.0
"""The service says something every 15 s; a stream that is silent for longer is broken."""
FIRST_SILENCE_SECONDS = 5.0
"""It says something at once; a proxy that holds it back is found out so soon."""
SHORTEST_SILENCE_SECONDS = 1.0
MAX_DEAF_STREAMS = 2
"""In a row, from which nothing came; then there is only polling."""
POLL_SECONDS = 0.25
LONGEST_POLL_SECONDS = 5.0


class Waiting:
    """
    Waits for one job.

    The stream is only a faster way to learn what polling tells. No fault of it ends the waiting: the poll
    that follows says what is wrong with a token or an id.

    Args:
        caller: sends the requests.
        job_id: the job's.
        path: of its status.
        seconds: how long is waited.
        on_status: is told of each new status.
    """

    def __init__(
        self, caller: Caller, job_id: str, path: str, seconds: float, on_status: OnStatus | None
    ) -> None:
        self._caller = caller
        self._job_id = job_id
        self._path = path
        self._ends_at = time.monotonic() + seconds
        self._on_status = on_status
        self._events = EventReader()
        self._deaf_streams = 0
        self._polls = 0
        self._last: JobStatus | None = None

    def until_final(self, *, by_events: bool) -> Plan[None]:
        """Until the job has come to rest. Raises WaitTimeoutError, and what a poll raises."""
        while True:
            if (
                by_events
                and self._deaf_streams < MAX_DEAF_STREAMS
                and self._remaining > SHORTEST_SILENCE_SECONDS
            ):
                yield from self._listen()
            if self._is_final or (yield from self._poll()):
                return
            yield Pause(self._pause())

    @property
    def _is_final(self) -> bool:
        return self._last is not None and self._last.is_final

    @property
    def _remaining(self) -> float:
        return self._ends_at - time.monotonic()

    def _pause(self) -> float:
        if self._remaining <= 0:
            raise WaitTimeoutError("The job did not come to rest in time; it goes on.", job_id=self._job_id)
        longest = min(POLL_SECONDS * 2.0**self._polls, LONGEST_POLL_SECONDS)
        self._polls += 1
        asked = 0.0 if self._deaf_streams else self._events.retry_seconds
        return min(max(longest, asked), self._remaining)

    def _poll(self) -> Plan[bool]:
        """Whether the job has come to rest."""
        caller = self._caller
        seconds = max(0.0, min(caller.retries.total_seconds, self._remaining))
        patient = replace(caller, retries=replace(caller.retries, total_seconds=seconds))
        self._tell((yield from patient.get(JobStatus, self._path)))
        return self._is_final

    def _tell(self, status: JobStatus) -> None:
        is_new, self._last = status != self._last, status
        if is_new and self._on_status:
            self._on_status(status)

    def _listen(self) -> Plan[None]:
        """Hear the events of one stream, however it ends."""
        self._deaf_streams += 1
        usual = SILENCE_SECONDS if self._last else FIRST_SILENCE_SECONDS
        silence = max(SHORTEST_SILENCE_SECONDS, min(usual, self._remaining / 2))
        try:
            reply = yield from self._caller.open(self._request(silence))
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
                self._tell(read_json(JobStatus, event.data))
