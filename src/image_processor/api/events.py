"""Jobs watched for many clients with one poll, and the Server-Sent Events that each of them gets."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace

from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from image_processor.errors import NotFoundError, TooManyStreamsError, UnavailableError
from image_processor.jobs.progress import JobState
from image_processor.jobs.states import Reason, Status
from image_processor.telemetry import emit

POLL_SECONDS = 0.3
MAX_STREAMS_PER_USER = 20
MAX_STREAMS = 1000
"""Of one process."""
RETRY_MS = 2000
"""How long a client waits before it connects again."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second keeps nginx from holding events back."""

Read = Callable[[Collection[str], str | None], Mapping[str, JobState]]
Form = Callable[[JobState], BaseModel]
"""What clients are shown of a state."""


class Watch:
    """One client's look at one job: always its newest state, and no queue of older ones."""

    def __init__(self, state: JobState, leave: Callable[["Watch"], None]) -> None:
        self.state = state
        self.is_closed = False
        self._leave = leave
        self._news = asyncio.Event()

    def tell(self, state: JobState) -> None:
        """Say what the job's state is now."""
        if state != self.state:
            self.state = state
            self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Wait so long for a new state or the end of the watch; whether one of them came."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def close(self) -> None:
        """End the watch; again: nothing."""
        self.is_closed = True
        self._leave(self)
        self._news.set()


class JobWatcher:
    """
    Asks for the states of all jobs that somebody watches, in one query, and only while somebody does.

    Everything runs in the event loop, but for `read`, which is called in a thread.

    Args:
        read: the states of those of the jobs that are there, and belong to the user where one is given.
        poll_seconds: between two calls of it.
    """

    def __init__(self, read: Read, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._read = read
        self._poll_seconds = poll_seconds
        self._watches: set[Watch] = set()
        self._polling: asyncio.Task[None] | None = None
        self._is_blind = False
        self._is_closed = False

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._watches)

    async def open(self, job_id: str, user_id: str) -> Watch:
        """
        Watch a job of the user, from its present state on.

        Raises NotFoundError, TooManyStreamsError where the user watches 20 already, UnavailableError where
        there is no room for anybody, the database is down or the server stops.
        """
        self._check_room(user_id)
        states = await asyncio.to_thread(self._read, [job_id], user_id)
        if job_id not in states:
            raise NotFoundError("There is no such job.")
        self._check_room(user_id)
        return self._register(states[job_id])

    def _register(self, state: JobState) -> Watch:
        watch = Watch(state, self._watches.discard)
        self._watches.add(watch)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.get_running_loop().create_task(self._poll())
        return watch

    def close(self) -> None:
        """End all watches; none is opened afterwards."""
        self._is_closed = True
        for watch in tuple(self._watches):
            watch.close()

    def _check_room(self, user_id: str) -> None:
        if self._is_closed or len(self._watches) >= MAX_STREAMS:
            raise UnavailableError("There is no room for another event stream; poll, or try again later.")
        if sum(watch.state.user_id == user_id for watch in self._watches) >= MAX_STREAMS_PER_USER:
            raise TooManyStreamsError(
                f"You have {MAX_STREAMS_PER_USER} event streams open; close one, or poll.",
                limit=MAX_STREAMS_PER_USER,
            )

    async def _poll(self) -> None:
        while self._watches:
            await asyncio.sleep(self._poll_seconds)
            await self._look()

    async def _look(self) -> None:
        watches = tuple(self._watches)  # one that is opened meanwhile may know more than what is read now
        try:
            states = await asyncio.to_thread(self._read, {watch.state.job_id for watch in watches}, None)
        except Exception as error:  # noqa: BLE001 - whatever it is: the streams go on when it is over
            self._note_blindness(error)
            return
        self._is_blind = False
        for watch in watches:
            watch.tell(states.get(watch.state.job_id) or _gone(watch.state))

    def _note_blindness(self, error: Exception) -> None:
        if not self._is_blind:
            emit("events.poll.failed", error=f"{type(error).__name__}: {error}", streams=self.streams)
        self._is_blind = True


def _gone(state: JobState) -> JobState:
    """What is told of a job that can no longer be asked for."""
    return replace(
        state,
        status=Status.FAILED,
        reason=Reason.CANCELLED,
        progress=0,
        step=None,
        error="The image of this job was deleted.",
        error_code="deleted",
        paths={},
    )


@dataclass(frozen=True)
class Event:
    """A state in the form of Server-Sent Events."""

    name: str
    """progress, completed or failed."""
    data: str

    @property
    def id(self) -> str:
        """The same for what looks the same: a client that has seen it need not see it again."""
        return hashlib.blake2b(f"{self.name} {self.data}".encode(), digest_size=8).hexdigest()

    @property
    def is_last(self) -> bool:
        """Whether the stream ends with it."""
        return self.name != "progress"

    def __str__(self) -> str:
        return f"id: {self.id}\nevent: {self.name}\ndata: {self.data}\n\n"


def event_of(state: JobState, form: Form) -> Event:
    """The event that tells of a state; its data are JSON in one line."""
    return Event("progress" if state.is_live else state.status.value, form(state).model_dump_json())


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The times of a stream, in seconds."""

    heartbeat: float = 15.0
    """A comment is sent after so long a silence: proxies close what they take for dead."""
    longest: float = 3600.0
    """The stream is ended then, and the client connects again, perhaps to another process."""


USUAL_PACE = Pace()


class EventStream(StreamingResponse):
    """The events of one job, from its present state to its end; closes its watch, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, watch: Watch, form: Form, *, seen: str | None = None, pace: Pace = USUAL_PACE) -> None:
        self._watch = watch
        self._form = form
        self._seen = seen
        """The id of the last event that the client has."""
        self._pace = pace
        super().__init__(self._chunks(), headers=HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the events; a client that leaves ends them at once."""
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        leaving.add_done_callback(lambda _: self._watch.close())
        try:
            await self.stream_response(send)
        finally:
            leaving.cancel()
            self._watch.close()

    async def _chunks(self) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MS}\n\n"
        ends_at = time.monotonic() + self._pace.longest
        while not self._watch.is_closed and time.monotonic() < ends_at:
            event = event_of(self._watch.state, self._form)
            if event.id != self._seen:
                self._seen = event.id
                yield str(event)
            if event.is_last:
                return
            if not await self._watch.wait(min(self._pace.heartbeat, self._pace.longest)):
                yield ": the job goes on\n\n"
