"""Event streams over a real server and a real database: what clients see, and what they cost."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from image_processor.api import events
from image_processor.api.auth import Authenticator
from image_processor.api.errors import add_error_answers
from image_processor.api.events import EventStream, JobWatcher, Pace
from image_processor.api.routes import events as routes
from image_processor.api.shutdown import Server
from image_processor.errors import EngineError, InvalidRequestError, UnavailableError
from image_processor.jobs import Claim, Database, ImageRepository, JobRepository
from image_processor.jobs.progress import ProgressRepository
from image_processor.storage.local import LocalStorage
from image_processor.telemetry import subscribe
from image_processor.tokens import Rules, SecretKeys, TokenVerifier
from integration.api.front import SECRET, UNKNOWN, token
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts
from migrated import put_migrated

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.05
GRACE_SECONDS = 20
QUICK = Pace(heartbeat=0.1, longest=0.4)


@dataclass
class Seen:
    """One event as a client parses it."""

    id: str
    name: str
    data: dict[str, Any]


class Stream:
    """An open stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def lines(self) -> list[str]:
        """All that comes until the server ends the stream."""
        return list(self._lines)

    def event(self) -> Seen:
        """The next event."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if not line and "data" in fields:
                return Seen(fields["id"], fields["event"], json.loads(fields["data"]))
            fields |= {name: value} if name else {}
        raise AssertionError("the stream ended without another event")

    def has_ended(self) -> bool:
        return self.lines() == []


class Site:
    """A server with the routes of event streams and nothing else, over a database."""

    def __init__(self, folder) -> None:
        self.database = Database.open(put_migrated(folder / "jobs.db"))
        self.jobs = JobRepository(self.database)
        self.progress = ProgressRepository(self.database)
        self.polls: list[set[str]] = []
        """The ids of each poll."""
        self.outage: Exception | None = None
        self.watcher = JobWatcher(self._read, poll_seconds=POLL_SECONDS)
        config = uvicorn.Config(
            self._app(folder),
            http="httptools",
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self.server = Server(config, self.watcher)
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self._thread.start()

    def _app(self, folder) -> FastAPI:
        api = FastAPI()
        api.state.app = SimpleNamespace(storage=LocalStorage(folder / "storage"))
        api.state.authenticator = Authenticator(TokenVerifier(SecretKeys([SECRET], "HS256"), Rules()))
        api.state.watcher = self.watcher
        add_error_answers(api)
        api.include_router(routes.router)

        @api.get("/quick/{job_id}")
        async def quick(job_id: str) -> EventStream:
            watch = await self.watcher.open(job_id, "ada")
            return EventStream(watch, routes.image_job_event, pace=QUICK)

        return api

    def _read(self, job_ids, user_id):
        if self.outage:
            raise self.outage
        if user_id is None:
            self.polls.append(set(job_ids))
        return self.progress.states(job_ids, user_id)

    def claim(self, user: str = "ada") -> Claim:
        receipt = self.jobs.submit(an_upload(user_id=user), UNLIMITED)
        claim = self.jobs.claim("worker-1", 60.0, receipt.job_id)
        assert claim is not None
        return claim

    def path(self, claim: Claim) -> str:
        return f"{self.url}/api/v1/images/jobs/{claim.job_id}/events"

    @contextmanager
    def stream(self, path: str, user: str = "ada", **headers: str) -> Iterator[Stream]:
        headers = {"Authorization": f"Bearer {token(user)}", **headers}
        with httpx.stream("GET", path, headers=headers, timeout=PATIENCE_SECONDS) as answer:
            yield Stream(answer)

    def get(self, path: str, user: str = "ada") -> httpx.Response:
        return httpx.get(path, headers={"Authorization": f"Bearer {token(user)}"}, timeout=PATIENCE_SECONDS)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < ends_at
            time.sleep(0.01)

    def stop(self) -> float:
        """Stop the server; how many seconds that took."""
        started = time.monotonic()
        self.server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return time.monotonic() - started

    def close(self) -> None:
        self.stop()
        self.database.close()


@pytest.fixture(scope="module")
def one_site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("events"))
    yield site
    site.close()


@pytest.fixture
def site(one_site):
    """A server that nothing is left on after each test."""
    yield one_site
    one_site.wait_until(lambda: one_site.watcher.streams == 0)


def test_a_stream_tells_the_life_of_a_job(site):
    receipt = site.jobs.submit(an_upload(), UNLIMITED)
    with site.stream(f"{site.url}/api/v1/images/jobs/{receipt.job_id}/events") as stream:
        told = [stream.event()]
        claim = site.jobs.claim("worker-1", 60.0, receipt.job_id)
        told.append(stream.event())
        for percent, step in ((25, "render"), (80, "store")):
            site.progress.note(claim, percent, step)
            told.append(stream.event())
        site.jobs.complete(claim, some_facts())
        told.append(stream.event())
        assert stream.has_ended()
    shown = [(event.name, event.data["status"], event.data["progress"], event.data["step"]) for event in told]
    assert shown == [
        ("progress", "pending", 0, None),
        ("progress", "processing", 0, None),
        ("progress", "processing", 25, "render"),
        ("progress", "processing", 80, "store"),
        ("completed", "completed", 100, None),
    ]
    assert all(earlier.id != later.id for earlier, later in pairwise(told))
    assert told[-1].data["completed_at"]


def test_the_headers_keep_proxies_and_caches_out_of_it(site):
    with site.stream(site.path(site.claim())) as stream:
        headers = stream.answer.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert "content-length" not in headers
        assert next(stream._lines) == "retry: 2000"


def test_a_failed_job_ends_its_stream_with_the_reason(site):
    claim = site.claim()
    with site.stream(site.path(claim)) as stream:
        stream.event()
        site.jobs.fail(claim, InvalidRequestError("The picture is of no use."))
        last = stream.event()
        assert stream.has_ended()
    assert (last.name, last.data["status"]) == ("failed", "failed")
    assert (last.data["error"], last.data["error_code"]) == ("The picture is of no use.", "invalid_request")


def test_a_retry_is_progress_and_not_the_end(site):
    claim = site.claim()
    with site.stream(site.path(claim)) as stream:
        stream.event()
        site.jobs.fail(claim, EngineError("It was not to be."))
        again = stream.event()
    assert (again.name, again.data["status"], again.data["error"]) == (
        "progress",
        "retrying",
        "It was not to be.",
    )


def test_a_deleted_image_ends_the_stream(site):
    claim = site.claim()
    with site.stream(site.path(claim)) as stream:
        stream.event()
        ImageRepository(site.database).delete(claim.image_id, "ada")
        last = stream.event()
        assert stream.has_ended()
    assert (last.name, last.data["error_code"]) == ("failed", "deleted")


def test_a_cancelled_job_ends_the_stream(site):
    claim = site.claim()
    site.jobs.release(claim)
    with site.stream(site.path(claim)) as stream:
        stream.event()
        site.jobs.cancel(claim.job_id, "ada")
        last = stream.event()
        assert stream.has_ended()
    assert (last.name, last.data["error_code"]) == ("failed", "cancelled")


def test_the_other_route_speaks_of_jobs_in_its_own_words(site):
    claim = site.claim()
    site.jobs.release(claim)
    with site.stream(f"{site.url}/jobs/{claim.job_id}/events") as stream:
        waiting = stream.event()
        again = site.jobs.claim("worker-1", 60.0, claim.job_id)
        running = stream.event()
        site.jobs.complete(again, some_facts())
        last = stream.event()
    assert [event.data["status"] for event in (waiting, running, last)] == [
        "queued",
        "processing",
        "completed",
    ]
    assert last.data["output"] == "/storage/holiday/processed/thumbnail/1_thumbnail.webp"
    assert {"job_id", "status", "progress", "error", "output"} <= set(waiting.data)


def test_who_comes_back_is_not_told_again_what_was_seen(site):
    claim = site.claim()
    with site.stream(site.path(claim)) as stream:
        seen = stream.event()
    with site.stream(site.path(claim), **{"Last-Event-ID": seen.id}) as stream:
        site.progress.note(claim, 40, "render")
        assert stream.event().data["progress"] == 40
    with site.stream(site.path(claim), **{"Last-Event-ID": seen.id}) as stream:
        assert stream.event().data["progress"] == 40, "what came while nobody listened is told at once"


def test_who_has_seen_the_end_need_not_come_back(site):
    claim = site.claim()
    site.jobs.complete(claim, some_facts())
    with site.stream(site.path(claim)) as stream:
        last = stream.event()
        assert stream.has_ended()
    with site.stream(site.path(claim), **{"Last-Event-ID": last.id}) as stream:
        assert stream.answer.status_code == 204


def test_jobs_of_others_do_not_exist(site):
    claim = site.claim("ada")
    for path in (site.path(claim), f"{site.url}/jobs/{claim.job_id}/events"):
        answer = site.get(path, "bob")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert site.get(f"{site.url}/jobs/{UNKNOWN}/events").status_code == 404
    assert site.get(f"{site.url}/jobs/%00/events").status_code == 404
    assert site.watcher.streams == 0


def test_a_token_in_the_address_is_no_token(site):
    claim = site.claim()
    for name in ("token", "access_token", "authorization"):
        answer = httpx.get(site.path(claim), params={name: token("ada")})
        assert answer.status_code == 401


def test_a_user_has_twenty_streams_and_others_have_theirs(site):
    claim, other = site.claim("ada"), site.claim("bob")
    with ExitStack() as open_streams:
        for _ in range(events.MAX_STREAMS_PER_USER):
            open_streams.enter_context(site.stream(site.path(claim)))
        refused = site.get(site.path(claim))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
        with site.stream(site.path(other), "bob") as stream:
            assert stream.event().data["job_id"] == other.job_id
    site.wait_until(lambda: site.watcher.streams == 0)
    with site.stream(site.path(claim)) as stream:
        assert stream.answer.status_code == 200


def test_a_process_has_room_for_so_many(site, monkeypatch):
    monkeypatch.setattr(events, "MAX_STREAMS", 1)
    claim = site.claim()
    with site.stream(site.path(claim)):
        refused = site.get(site.path(claim))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


def test_a_client_that_leaves_frees_everything(site):
    claim = site.claim()
    with site.stream(site.path(claim)) as stream:
        stream.event()
        assert site.watcher.streams == 1
    site.wait_until(lambda: site.watcher.streams == 0)
    site.wait_until(site.watcher._polling.done)
    polls = len(site.polls)
    time.sleep(4 * POLL_SECONDS)  # nothing is to happen
    assert len(site.polls) == polls


def test_an_outage_of_the_database_is_silence_and_not_the_end(site):
    claim, told = site.claim(), []
    unsubscribe = subscribe(lambda event, _: told.append(event))
    with site.stream(site.path(claim)) as stream:
        stream.event()
        site.outage = UnavailableError("The database does not answer.")
        site.wait_until(lambda: "events.poll.failed" in told)
        assert site.get(site.path(claim)).status_code == 503
        site.progress.note(claim, 30, "render")
        site.outage = None
        assert stream.event().data["progress"] == 30
    unsubscribe()
    assert told.count("events.poll.failed") == 1


def test_silence_is_broken_by_comments_and_ended_after_a_while(site):
    with site.stream(f"{site.url}/quick/{site.claim().job_id}") as stream:
        stream.event()
        lines = stream.lines()
    assert {line for line in lines if line} == {": the job goes on"}


def test_a_server_that_stops_does_not_wait_for_streams(tmp_path):
    site = Site(tmp_path)
    claim = site.claim()
    with site.stream(site.path(claim)) as stream:
        stream.event()
        assert site.stop() < GRACE_SECONDS / 2
        assert stream.has_ended()
    with pytest.raises(UnavailableError):
        asyncio.run(site.watcher.open(claim.job_id, "ada"))
    site.close()


@pytest.mark.slow
def test_a_hundred_streams_are_one_poll(site):
    claims = [site.claim(f"user-{number % 10}") for number in range(100)]
    asyncio.run(watch_all(site, claims))
    assert {claim.job_id for claim in claims} in site.polls


async def watch_all(site, claims):
    everyone = asyncio.Barrier(len(claims) + 1)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits) as client:

        async def watch(claim):
            headers = {"Authorization": f"Bearer {token(claim.user_id)}"}
            async with client.stream("GET", site.path(claim), headers=headers) as answer:
                await everyone.wait()
                return [line async for line in answer.aiter_lines() if line.startswith("event")]

        tasks = [asyncio.create_task(watch(claim)) for claim in claims]
        await everyone.wait()
        assert site.watcher.streams == len(claims)
        started, polls = time.monotonic(), len(site.polls)
        for claim in claims:
            await asyncio.to_thread(site.jobs.complete, claim, some_facts())
        told = await asyncio.gather(*tasks)
        assert len(site.polls) - polls <= (time.monotonic() - started) / POLL_SECONDS + 1
    assert {tuple(lines) for lines in told} == {("event: progress", "event: completed")}
