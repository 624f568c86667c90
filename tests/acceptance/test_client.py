"""Both clients of ours against a real service."""

import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from client_faces import FACES, new_client
from image_processor.client import ImageProcessorClient, Retries, WaitTimeoutError, operations
from image_processor.errors import (
    AuthenticationError,
    ConflictError,
    IdempotencyError,
    JobFailedError,
    NotFoundError,
    ResultNotReadyError,
    UnsupportedFormatError,
)
from image_processor.testing import sample_images
from running_service import Service
from webhook_receiver import SECRET, Receiver

pytestmark = pytest.mark.slow

PICTURE = sample_images.photo(width=450, height=600)
GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "python-client.md"
MISSING = "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder that jobs may read and write."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "photo.jpg").write_bytes(PICTURE)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("service")
    callbacks = {"WEBHOOK_SECRET": SECRET, "PRIVATE_NETWORKS": "127.0.0.0/8"}
    service = Service(folder, {"FILE_ROOTS": json.dumps([str(pictures)]), **callbacks})
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(params=FACES)
def client(request, running):
    made = new_client(request.param, running.url, running.token)
    yield made
    made.close()


@pytest.fixture
def source(request, tmp_path):
    """The picture as each kind of source."""
    if request.param == "path":
        path = tmp_path / "photo.jpg"
        path.write_bytes(PICTURE)
        return path
    return {"bytes": PICTURE, "stream": io.BytesIO(PICTURE), "pipe": Pipe(PICTURE)}[request.param]


class Pipe:
    """A stream of unknown length that can be read once."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize("source", ["path", "bytes", "stream", "pipe"], indirect=True)
def test_upload_wait_and_look(client, source, tmp_path):
    sent, told = [], []
    receipt = client.upload(
        source, bucket="client", metadata={"album": "ä"}, on_progress=lambda *so_far: sent.append(so_far)
    )
    total = None if isinstance(source, Pipe) else len(PICTURE)
    assert sent[-1] == (len(PICTURE), total)
    result = client.wait(receipt.job_id, timeout=90, on_status=told.append)
    assert told[-1].status == "completed"
    assert result == client.result(receipt.job_id)
    assert result.client_metadata == {"album": "ä"}
    assert (result.metadata.original_dimensions.width, result.metadata.original_dimensions.height) == (
        450,
        600,
    )
    assert client.status(receipt.job_id).progress == 100
    large = client.image(receipt.image_id, "large")
    data = client.download(receipt.image_id, "large")
    assert len(data) == large.size_bytes == result.metadata.variants["large"].size_bytes
    assert client.download(receipt.image_id, "large", to=tmp_path / "large.webp").read_bytes() == data
    assert httpx.get(client.urls(receipt.image_id)["large"]).content == data


def test_upload_directly_and_wait_by_polling(client):
    sent = []
    receipt = client.upload_directly(
        io.BytesIO(PICTURE), bucket="client", preset="avatar", on_progress=lambda *so_far: sent.append(so_far)
    )
    assert sent[-1] == (len(PICTURE), len(PICTURE))
    result = client.wait(receipt.job_id, timeout=90, by_events=False)
    assert result.image_id == receipt.image_id


def test_batch_and_delete(client):
    receipts = [client.upload(PICTURE, bucket="client", preset="avatar") for _ in range(2)]
    for receipt in receipts:
        client.wait(receipt.job_id, timeout=90)
    first, second = (receipt.image_id for receipt in receipts)
    asked = [second, MISSING, first, *(f"none-{number}" for number in range(60))]
    found = client.batch(asked)
    assert [image.image_id for image in found.images] == [second, first]
    assert found.not_found == (MISSING, *asked[3:])
    assert client.delete(first) is None
    with pytest.raises(NotFoundError):
        client.image(first)
    with pytest.raises(NotFoundError):
        client.delete(first)
    assert client.batch([first, second]).not_found == (first,)


def test_many_at_once(client, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(PICTURE)
    sources = [path, b"words" * 100, tmp_path / "missing.jpg", io.BytesIO(PICTURE)]
    sent = []
    key = f"many-of-{type(client).__name__}"
    first, words, missing, second = client.upload_many(
        sources,
        bucket="many",
        preset="avatar",
        metadata={"a": 1},
        idempotency_key=key,
        on_progress=lambda *so_far: sent.append(so_far),
    )
    total = 2 * len(PICTURE) + 500
    assert sent[-1] == (total, total)
    assert (type(words.error), type(missing.error)) == (UnsupportedFormatError, NotFoundError)
    assert "image/jpeg" in words.error.details["accepted"]
    for outcome in (first, second):
        assert client.wait(outcome.receipt.job_id, timeout=90).client_metadata == {"a": 1}
    again = client.upload_many(
        [PICTURE, b"words" * 100, PICTURE],
        bucket="many",
        preset="avatar",
        metadata={"a": 1},
        idempotency_key=key,
    )
    assert [outcome.receipt and outcome.receipt.job_id for outcome in again] == [
        first.receipt.job_id,
        None,
        second.receipt.job_id,
    ]


def test_thumbnails(client):
    told = []
    receipt = client.upload_for_thumbnails(PICTURE, metadata={"a": 1})
    assert (receipt.format, receipt.original_size, receipt.dimensions.width) == ("jpeg", len(PICTURE), 450)
    found = client.wait_for_thumbnails(receipt.upload_id, timeout=90, on_status=told.append)
    assert found == told[-1] == client.thumbnails(receipt.upload_id)
    assert {"original", "small", "medium", "large"} == set(found.urls)
    small = found.metadata.files["small"]["webp"]
    assert (small.width, small.height) == (150, 150)
    assert found.metadata.client_metadata == {"a": 1}
    with pytest.raises(UnsupportedFormatError) as refused:
        client.upload_for_thumbnails(b"words" * 100)
    assert refused.value.status == 400
    damaged = client.upload_for_thumbnails(sample_images.truncated_jpeg())
    with pytest.raises(JobFailedError) as failed:
        client.wait_for_thumbnails(damaged.upload_id, timeout=90)
    assert failed.value.details["code"] == "corrupt_image"


def test_a_direct_upload_whose_bytes_somebody_else_sends(client, running):
    ticket = client.open_upload(content_type="image/jpeg", size_bytes=len(PICTURE), bucket="client")
    with pytest.raises(ConflictError):
        client.complete_upload(ticket.upload_id)
    assert client.upload_state(ticket.upload_id).status == "open"
    assert "signature" not in repr(ticket)
    httpx.put(running.url + ticket.url, content=PICTURE, headers=dict(ticket.headers)).raise_for_status()
    receipt = client.complete_upload(ticket.upload_id)
    assert client.complete_upload(ticket.upload_id).job_id == receipt.job_id
    state = client.upload_state(ticket.upload_id)
    assert (state.status, state.job_id, state.image_id) == ("completed", receipt.job_id, receipt.image_id)


def test_what_there_is(client, running, monkeypatch):
    bucket = f"listed-{type(client).__name__.lower()}"
    receipts = [client.upload(PICTURE, bucket=bucket, preset="avatar") for _ in range(3)]
    damaged = client.upload(sample_images.truncated_jpeg(), bucket=bucket)
    for receipt in receipts:
        client.wait(receipt.job_id, timeout=90)
    with pytest.raises(JobFailedError):
        client.wait(damaged.job_id, timeout=90)
    monkeypatch.setattr(operations, "PAGE", 2)
    listed = list(client.images(bucket=bucket))
    assert [image.image_id for image in listed] == [
        damaged.image_id,
        *(receipt.image_id for receipt in receipts[::-1]),
    ]
    assert (listed[1].width, listed[1].height, listed[1].format) == (450, 600, "jpeg")
    assert [image.job_id for image in client.images(bucket=bucket, status="failed")] == [damaged.job_id]
    assert damaged.job_id in [job.job_id for job in client.failed()]
    assert damaged.job_id in [job.job_id for job in client.failed_of_all()]
    assert client.statistics().status_breakdown["completed"] >= 3
    health = client.health()
    assert (health.is_healthy, health.database, health.storage) == (True, "ok", "ok")


def test_a_stranger_learns_of_the_health_alone(running):
    with ImageProcessorClient(running.url, "no.such.token") as stranger:
        assert stranger.health().is_healthy
        with pytest.raises(AuthenticationError):
            stranger.statistics()


def test_deliveries_are_listed_and_sent_again(client, running):
    receiver = Receiver()
    try:
        receipt = client.upload(PICTURE, bucket="client", preset="avatar", callback_url=receiver.url)
        client.wait(receipt.job_id, timeout=90)
        receiver.wait_for(1)
        running.wait_for(
            lambda: client.deliveries(receipt.job_id)[0].status == "delivered", "the event to be delivered"
        )
        (delivery,) = client.deliveries(receipt.job_id)
        assert client.replay(receipt.job_id, delivery.delivery_id).delivery_id == delivery.delivery_id
        first, second = receiver.wait_for(2)
    finally:
        receiver.close()
    assert first.event_id == second.event_id == delivery.delivery_id
    with pytest.raises(NotFoundError):
        client.replay(receipt.job_id, MISSING)


def test_errors_are_those_of_the_service(client, running):
    with pytest.raises(UnsupportedFormatError) as refused:
        client.upload(b"words" * 100, bucket="client")
    assert "image/jpeg" in refused.value.details["accepted"]
    with pytest.raises(NotFoundError):
        client.wait(MISSING, timeout=10)
    client.upload(PICTURE, bucket="client", idempotency_key=f"key-of-{type(client).__name__}")
    with pytest.raises(IdempotencyError):
        client.upload(PICTURE, bucket="other", idempotency_key=f"key-of-{type(client).__name__}")
    receipt = client.upload(sample_images.truncated_jpeg(), bucket="client")
    with pytest.raises(JobFailedError) as failed:
        client.wait(receipt.job_id, timeout=90)
    assert failed.value.details["reason"] == "rejected"
    with ImageProcessorClient(running.url, "no.such.token") as stranger, pytest.raises(AuthenticationError):
        stranger.status(receipt.job_id)


def test_jobs_from_a_folder_to_a_folder(client, pictures):
    out = pictures / f"small-of-{type(client).__name__}.webp"
    receipt = client.submit_job(
        f"file://{pictures}/photo.jpg",
        operations=[{"op": "resize", "width": 90}],
        output=f"file://{out}",
        metadata={"a": 1},
    )
    client.wait(receipt.job_id, timeout=90)
    job = client.job(receipt.job_id)
    assert (job.status, job.output, job.metadata) == ("completed", f"file://{out}", {"a": 1})
    assert out.read_bytes()[8:12] == b"WEBP"
    with pytest.raises(ConflictError):
        client.cancel(receipt.job_id)


def test_a_job_that_fails_is_listed_and_tried_again(client, running, pictures, monkeypatch):
    monkeypatch.setattr(operations, "PAGE", 2)
    failing = [client.submit_job(f"file://{pictures}/{n}-{id(client)}.jpg").job_id for n in range(3)]
    for job_id in failing:
        with pytest.raises(JobFailedError):
            client.wait(job_id, timeout=90)
    listed = [job.job_id for job in client.jobs(status="failed", priority="normal")]
    assert [job_id for job_id in listed if job_id in failing] == failing[::-1]
    assert client.retry(failing[0]).job_id == failing[0]
    running.wait_for(lambda: client.job(failing[0]).status == "failed", "the job to fail again")
    assert client.job(failing[0]).error_code == "source_not_found"


def test_what_takes_too_long(client, running, pictures):
    with suspended_workers(running):
        receipt = client.submit_job(f"file://{pictures}/photo.jpg", bucket="late")
        with pytest.raises(ResultNotReadyError):
            client.result(receipt.job_id)
        with pytest.raises(WaitTimeoutError):
            client.wait(receipt.job_id, timeout=1.5)
        assert client.cancel(receipt.job_id).status == "failed"


@contextmanager
def suspended_workers(running):
    workers = running.processes("worker")
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


@pytest.mark.parametrize("by_events", [True, False])
def test_a_job_that_is_cancelled_ends_the_waiting(running, by_events):
    watched = threading.Event()
    with (
        suspended_workers(running),
        ImageProcessorClient(running.url, running.token) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        job_id = client.upload(PICTURE, bucket="late").job_id
        waiting = pool.submit(
            client.wait, job_id, timeout=90, by_events=by_events, on_status=lambda _: watched.set()
        )
        assert watched.wait(30)
        client.cancel(job_id)
        with pytest.raises(JobFailedError) as failed:
            waiting.result(60)
    assert failed.value.details["reason"] == "cancelled"


def test_a_service_that_restarts_does_not_end_the_waiting(running):
    watched = threading.Event()
    with (
        ImageProcessorClient(running.url, running.token, retries=Retries(attempts=1)) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        with suspended_workers(running):
            job_id = client.upload(PICTURE, bucket="late").job_id
            waiting = pool.submit(client.wait, job_id, timeout=90, on_status=lambda _: watched.set())
            assert watched.wait(30)
            for api in running.processes("api"):
                api.kill()
        assert waiting.result(90).status == "completed"


def test_many_threads_may_share_one(running):
    with ImageProcessorClient(running.url, lambda: running.token) as client, ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda _: client.upload(PICTURE, bucket="many", preset="avatar"), range(16)))
        results = list(pool.map(lambda receipt: client.wait(receipt.job_id, timeout=90), receipts))
    assert {result.image_id for result in results} == {receipt.image_id for receipt in receipts}
    assert len(results) == 16


def test_the_guide_does_what_it_says(running, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday.jpg").write_bytes(PICTURE)
    programs = re.findall(
        r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for program in programs:
        exec(program.replace("http://127.0.0.1:8000", running.url).replace("TOKEN", running.token), {})
    assert (tmp_path / "holiday-large.webp").read_bytes()[8:12] == b"WEBP"
    told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"#\w{6} http://\S+_large.webp", told[0])
    assert told[1].count("_large.webp") == 3
    assert re.fullmatch(r"holiday\.jpg \S{36}", told[2])
    assert "_large.webp" in "".join(told[3:])
    assert "image/webp" in told[-2]
    assert "completed" in told[-1]
