"""Nights of the storage: what fails or dawdles there costs no attempt, and nobody who does not need it."""

import asyncio
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest

from image_processor.api.routes import health
from image_processor.direct_uploads import SWEEP_BATCH, quarantine_key, sweep
from image_processor.errors import (
    StorageDamageError,
    StorageDeniedError,
    StorageDownError,
    StorageError,
    StorageFullError,
)
from image_processor.intake.shared_stage import PREFIX, SharedStage
from image_processor.intake.stage import Stage
from image_processor.jobs.uploads import NewUpload, UploadRepository
from image_processor.maintenance.sweeper import ORPHAN_SECONDS, _sweep_staged
from image_processor.storage.memory import MemoryStorage
from image_processor.telemetry import subscribe
from image_processor.testing.fake_engine import FakeEngine
from image_processor.worker.slot import Slot
from integration.api.front import Front, accepted, picture, token
from integration.workshop import PATIENCE_SECONDS, Workshop, in_thread
from running_service import Service

PUTS_AT_ONCE = 4
TURNS = 12
"""Which of several failures is seen first is chance."""
MORE_THAN_ALL_THREADS = 60


class Failing(MemoryStorage):
    """Every put fails at once: the first with one error, the others with another."""

    def __init__(self, first: StorageError | StorageDownError, then: StorageError | StorageDownError):
        super().__init__()
        self._first, self._then = first, then
        self._turn = threading.Lock()

    def put(self, key, source, *, content_type):
        with self._turn:
            error, self._first = self._first, self._then
        raise error


@contextmanager
def shop_with(folder, storage):
    shop = Workshop(folder, storage)
    shop.runner = replace(
        shop.runner, places=replace(shop.runner.places, storage=storage, puts_at_once=PUTS_AT_ONCE)
    )
    try:
        yield shop
    finally:
        shop.close()


def test_several_puts_that_meet_one_outage_charge_no_attempt(tmp_path):
    down = StorageDownError("The storage failed several times in a row and is left alone for now.")
    with shop_with(tmp_path, Failing(down, down)) as shop:
        for _ in range(TURNS):
            assert shop.outcome(shop.run()) == ("retrying", None, 0)


def test_the_first_failure_of_several_puts_is_the_one_that_counts(tmp_path):
    damaged, down = StorageDamageError("Other bytes."), StorageDownError("Nobody answers.")
    with shop_with(tmp_path, Failing(damaged, down)) as shop:
        attempt = shop.run()
        assert shop.outcome(attempt)[2] == 1
        assert shop.job_row(attempt.claim.job_id)["error_code"] == "storage_damage"


class Dawdling(MemoryStorage):
    """Answers nobody until it is told to."""

    def __init__(self):
        super().__init__()
        self.is_quick = threading.Event()
        self.is_quick.set()

    def stat(self, key):
        self.is_quick.wait(PATIENCE_SECONDS)
        return super().stat(key)

    def check(self):
        self.is_quick.wait(PATIENCE_SECONDS)

    def put(self, key, source, *, content_type):
        self.is_quick.wait(PATIENCE_SECONDS)
        return super().put(key, source, content_type=content_type)


class SlowToShare(Stage):
    """Shares through a storage that dawdles."""

    def __init__(self, directory, storage):
        super().__init__(directory)
        self._storage = storage

    def share(self, original):
        self._storage.is_quick.wait(PATIENCE_SECONDS)


@pytest.fixture
def front(tmp_path):
    front = Front(tmp_path)
    yield front
    front.close()


def test_a_storage_that_dawdles_takes_no_threads_of_those_who_do_not_need_it(front, monkeypatch):
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.2)
    storage = Dawdling()
    app = front.app
    job = accepted(front.client())["job_id"]
    object.__setattr__(app, "storage", storage)
    object.__setattr__(app.service, "storage", storage)
    object.__setattr__(app.service, "stage", SlowToShare(app.service.stage.directory, storage))
    asked = asyncio.run(ask_while_it_dawdles(front, storage, job))
    assert [answer.status_code for answer in asked["quick"]] == [200, 200, 503]
    assert asked["quick"][-1].json()["storage"] == "storage_timeout"
    assert {answer.status_code for answer in asked["files"]} == {404}
    assert {answer.status_code for answer in asked["uploads"]} == {202}


async def ask_while_it_dawdles(front, storage, job):
    transport = httpx.ASGITransport(front.api)
    headers = {"Authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://testserver", headers=headers
    ) as client:
        storage.is_quick.clear()
        try:
            files = [
                asyncio.create_task(client.get("/storage/a/b.webp")) for _ in range(MORE_THAN_ALL_THREADS)
            ]
            uploads = [asyncio.create_task(upload(client, number)) for number in range(8)]
            await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE_SECONDS / 2):
                quick = [
                    await client.get(address)
                    for address in (
                        f"/api/v1/images/jobs/{job}",
                        "/api/v1/images/batch?image_ids=unknown",
                        "/api/v1/health",
                    )
                ]
            assert not any(task.done() for task in (*files, *uploads)), "they do need it"
        finally:
            storage.is_quick.set()
        return {
            "quick": quick,
            "files": await asyncio.gather(*files),
            "uploads": await asyncio.gather(*uploads),
        }


def upload(client, number):
    content = picture((200 + number, 200))
    return client.post("/api/v1/images/upload", files={"file": content}, data={"bucket": "tests"})


@pytest.mark.slow
def test_an_api_without_workers_beside_it_sweeps_its_own_stage(tmp_path):
    staging = tmp_path / "data" / "staging"
    staging.mkdir(parents=True)
    (staging / "left-by-a-killed-one").write_bytes(b"half a picture")
    long_ago = time.time() - 2 * ORPHAN_SECONDS
    os.utime(staging / "left-by-a-killed-one", (long_ago, long_ago))
    (staging / "in-the-making").write_bytes(b"half a picture")
    service = Service(tmp_path, environment={"QUEUE_BACKEND": "celery", "REDIS_URL": "redis://127.0.0.1:1"})
    service.start()
    try:
        assert service.processes("worker") == []
        service.wait_for(lambda: service.staged() == ["in-the-making"], "the old file to go")
    finally:
        service.stop()


class NeverRoom(SharedStage):
    """On a disk that is nearly full until the test makes room."""

    has_room = False

    def check_room(self):
        if not self.has_room:
            raise StorageFullError("The disk is nearly full; no more files are taken in for now.")


def test_a_worker_without_room_leaves_the_jobs_to_others(tmp_path):
    front = Front(tmp_path, {"storage_backend": "local"})
    try:
        jobs = [accepted(front.client(), picture((200 + n, 200)))["job_id"] for n in range(3)]
        full = NeverRoom(tmp_path / "elsewhere", MemoryStorage())
        told = []
        stop = threading.Event()
        parts = replace(front.worker, check_room=full.check_fetching)
        slot = Slot.of(parts, worker_id="full", stall=front.slot.stall, leases=front.slot.leases)
        slot = replace(slot, new_engine=FakeEngine)
        with listening(told), in_thread(slot.run, stop):
            try:
                wait_until(lambda: "slot.failed" in told)
                statuses = {front.app.jobs.job(job_id, "me").status for job_id in jobs}
                full.has_room = True
                wait_until(
                    lambda: all(front.app.jobs.job(job_id, "me").status == "completed" for job_id in jobs)
                )
            finally:
                stop.set()
        assert statuses == {"pending"}, "none was put off for a minute"
    finally:
        front.close()


@contextmanager
def listening(told):
    unsubscribe = subscribe(lambda event, _fields: told.append(event))
    try:
        yield
    finally:
        unsubscribe()


def wait_until(is_so):
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


class OneThatStays(MemoryStorage):
    """Removes everything but one key, as where that is under a legal hold."""

    def __init__(self, key=""):
        super().__init__()
        self.key = key

    def delete(self, key):
        if key == self.key:
            raise StorageDeniedError("The storage does not let us delete it.")
        return super().delete(key)


def test_what_cannot_be_removed_keeps_no_other_upload_from_its_end(tmp_path):
    with shop_with(tmp_path, MemoryStorage()) as shop:
        uploads, incoming = UploadRepository(shop.database), OneThatStays()
        for number in range(SWEEP_BATCH + 1):
            open_upload(uploads, f"upload-{number:02}")
            (tmp_path / "body").write_bytes(b"bytes")
            incoming.put(quarantine_key(f"upload-{number:02}"), tmp_path / "body", content_type="image/png")
        shop.execute("update direct_uploads set purge_at = 1 + cast(substr(upload_id, 8) as integer)")
        incoming.key = quarantine_key("upload-00")
        with pytest.raises(StorageDeniedError):
            sweep(uploads, incoming)
        with pytest.raises(StorageDeniedError):
            sweep(uploads, incoming)
        assert list(incoming.keys("")) == [incoming.key]


def open_upload(uploads, upload_id):
    upload = NewUpload(
        upload_id=upload_id,
        user_id="ada",
        request="{}",
        content_type="image/png",
        size_bytes=5,
        sha256=None,
    )
    uploads.open(upload, valid_seconds=60, max_open=100)


def test_what_cannot_be_removed_keeps_no_other_original_in_the_storage(tmp_path):
    with shop_with(tmp_path, MemoryStorage()) as shop:
        incoming = OneThatStays()
        for name in "abc":
            (tmp_path / "body").write_bytes(b"bytes")
            incoming.put(PREFIX + name, tmp_path / "body", content_type="image/png")
        incoming.key = PREFIX + "a"
        stage = SharedStage(tmp_path / "stage", incoming)
        with pytest.raises(StorageDeniedError):
            _sweep_staged(shop.jobs, "abc", stage.remove)
        assert list(incoming.keys("")) == [incoming.key]
