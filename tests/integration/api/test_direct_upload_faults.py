"""Direct uploads: what is refused beforehand, bounds, bodies that come here, and what comes in between."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from image_processor.api.upload_schemas import PATH
from image_processor.direct_uploads import quarantine_key
from image_processor.errors import StorageDownError
from image_processor.jobs.uploads import UploadRepository
from image_processor.storage import LocalStorage
from integration.api.direct import DirectFront, at_once, open_upload, sha256
from integration.api.front import Front, assert_refused, picture
from running_service import wait_for_result

JPEG = picture((80, 60))
OTHER = picture((60, 80))
PNG = picture((80, 60), "PNG")
SECRET = "whsec_" + "c2VjcmV0" * 4


class KilledError(BaseException):
    """The end of a process, in place of its end."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[DirectFront]:
    overrides = {"rate_limit_max_uploads": 0, "join_duplicates": False, "webhook_secret": SECRET}
    with closing(Front(tmp_path_factory.mktemp("direct"), overrides)) as front:
        yield DirectFront(front)


@pytest.fixture
def direct(place: DirectFront) -> Iterator[DirectFront]:
    yield place
    place.empty()


IN_VAIN = {
    "an unknown preset": ({"preset": "nope"}, 422, "invalid_request"),
    "a bad bucket": ({"bucket": "../etc"}, 422, "invalid_request"),
    "no bucket": ({"bucket": None}, 422, "invalid_request"),
    "a type that is not accepted": ({"content_type": "image/gif"}, 415, "unsupported_format"),
    "a type that the preset does not take": (
        {"content_type": "image/webp", "preset": "avatar"},
        415,
        "unsupported_format",
    ),
    "no bytes": ({"size_bytes": 0}, 422, "invalid_request"),
    "half a byte": ({"size_bytes": 0.5}, 422, "invalid_request"),
    "too many bytes": ({"size_bytes": 10 * 1024 * 1024 + 1}, 413, "file_too_large"),
    "too many for the preset": ({"size_bytes": 6 * 1024 * 1024, "preset": "avatar"}, 413, "file_too_large"),
    "no hash": ({"sha256": "abc"}, 422, "invalid_request"),
    "metadata that is no object": ({"metadata": "[1]"}, 422, "invalid_request"),
    "too much metadata": ({"metadata": {"a": "x" * 20_000}}, 422, "invalid_request"),
    "an unknown priority": ({"priority": "now"}, 422, "invalid_request"),
    "a callback to ourselves": ({"callback_url": "https://127.0.0.1/"}, 422, "address_refused"),
    "a field that there is not": ({"key": "INCOMING/x"}, 422, "invalid_request"),
}


@pytest.mark.parametrize(("fields", "status", "code"), IN_VAIN.values(), ids=IN_VAIN)
def test_what_would_be_refused_is_refused_before_it_is_uploaded(direct, fields, status, code):
    assert_refused(open_upload(direct.client(), 100, **fields), status, code)


def test_every_route_but_the_signed_one_needs_a_token(direct):
    ticket = direct.opened(JPEG)
    stranger = direct.client(None)
    assert open_upload(stranger, 100).status_code == 401
    assert stranger.get(f"{PATH}/{ticket['upload_id']}").status_code == 401
    assert stranger.post(ticket["complete_url"]).status_code == 401


@pytest.mark.parametrize("metadata", ['{"a": "\\u0000 ü"}', {"a": "\0 ü"}])
def test_metadata_is_an_object_or_its_text(direct, metadata):
    accepted = direct.complete(direct.uploaded(JPEG, metadata=metadata)).json()
    job = direct.client().get(f"/jobs/{accepted['job_id']}")
    assert job.json()["metadata"] == {"a": "\0 ü"}


def test_opening_looks_at_the_quota_and_completing_takes_it(make_front):
    direct = DirectFront(make_front(rate_limit_max_uploads=1))
    first, second = direct.uploaded(JPEG), direct.uploaded(OTHER)
    answer = direct.complete(first)
    assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (202, "0")
    assert direct.complete(first).status_code == 202
    assert_refused(direct.complete(second), 429, "rate_limited")
    assert direct.state(second)["status"] == "open"
    assert_refused(open_upload(direct.client(), 100), 429, "rate_limited")


def test_only_so_many_are_open_at_once(direct):
    direct.rewire(max_open=1)
    ticket = direct.uploaded(JPEG)
    refused = open_upload(direct.client(), 100)
    assert_refused(refused, 429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0
    assert open_upload(direct.client("eve"), 100).status_code == 201
    assert direct.complete(ticket).status_code == 202
    direct.opened(JPEG)


def test_where_there_are_none_nothing_is_found(direct):
    ticket = direct.uploaded(JPEG)
    direct.wire(None)
    assert_refused(open_upload(direct.client(), 100), 404, "not_found")
    assert_refused(direct.complete(ticket), 404, "not_found")
    assert_refused(direct.send(ticket, JPEG), 404, "not_found")


def test_what_was_sent_is_replaced_until_it_is_completed(direct):
    ticket = direct.uploaded(OTHER, size_bytes=len(JPEG), sha256=sha256(JPEG))
    assert direct.send(ticket, JPEG).status_code == 204
    assert direct.complete(ticket).status_code == 202
    assert_refused(direct.send(ticket, JPEG), 409, "conflict")
    assert direct.quarantined() == []


def test_a_body_without_a_length_is_bounded_too(direct):
    ticket = direct.opened(JPEG)
    with direct.client(None) as client:
        answer = client.put(ticket["url"], content=iter([JPEG, b"\0"]), headers=ticket["headers"])
    assert_refused(answer, 413, "file_too_large")
    assert_refused(direct.send(ticket, b""), 422, "invalid_request")
    assert (direct.quarantined(), direct.staged()) == ([], [])


def test_a_full_disk_refuses_the_body(make_front):
    direct = DirectFront(make_front(min_free_disk_mb=2**40))
    assert_refused(direct.send(direct.opened(JPEG), JPEG), 507, "storage_full")


async def _stalled() -> AsyncIterator[bytes]:
    yield JPEG[:100]
    await asyncio.Event().wait()


def test_a_body_that_does_not_end_leaves_nothing(make_front):
    direct = DirectFront(make_front(upload_timeout_seconds=0.2))
    ticket = direct.opened(JPEG)

    async def put() -> httpx.Response:
        transport = httpx.ASGITransport(direct.front.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.put(ticket["url"], content=_stalled(), headers=ticket["headers"])

    assert_refused(asyncio.run(put()), 408, "upload_timeout")
    assert (direct.quarantined(), direct.staged()) == ([], [])


def _send_half(url: httpx.URL, content: bytes) -> None:
    """A client that goes away in the middle of its body."""
    head = (
        f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(head.encode() + content[: len(content) // 2])


@pytest.mark.slow
def test_a_client_that_goes_away_leaves_nothing(service):
    """And whole bytes become a picture; here with real processes and connections."""
    data = service.folder / "data"
    with service.client() as client:
        ticket = open_upload(client, len(JPEG)).json()
        _send_half(client.base_url.join(ticket["url"]), JPEG)
        service.wait_for(lambda: any("request.disconnected" in line for line in service.log), "the end")
        assert [path for path in (data / "incoming").rglob("*") if path.is_file()] == []
        assert service.staged() == []
        assert client.post(ticket["complete_url"]).status_code == 409

        assert httpx.put(f"{service.url}{ticket['url']}", content=JPEG, headers=ticket["headers"]).is_success
        job_id = client.post(ticket["complete_url"]).json()["job_id"]
        assert wait_for_result(client, job_id).status_code == 200


class Replacing(LocalStorage):
    """A client replaces each object in the moment in which it was opened."""

    def __init__(self, root: Path, source: Path) -> None:
        super().__init__(root)
        self._source = source

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with super().open(key) as content:
            yield content
            self.put(key, self._source, content_type="image/jpeg")


def test_what_was_checked_is_what_is_processed(direct, tmp_path):
    (tmp_path / "other").write_bytes(PNG)
    direct.rewire(incoming=Replacing(direct.front.settings.incoming, tmp_path / "other"))
    accepted = direct.complete(direct.uploaded(JPEG)).json()
    assert direct.front.work() == 1
    image = direct.front.app.service.finished_image("me", accepted["image_id"]).image
    assert (image.sha256, image.source_format) == (sha256(JPEG), "jpeg")


class Dying(UploadRepository):
    """Its process is killed before the end of an upload is noted."""

    def complete(self, upload_id: str, *, job_id: str, image_id: str) -> bool:
        raise KilledError


@pytest.mark.parametrize("replacement", [None, OTHER, PNG])
def test_killed_before_the_job_is_noted_it_is_the_same_job(direct, tmp_path, replacement):
    ticket = direct.uploaded(JPEG)
    direct.rewire(uploads=Dying(direct.front.app.database))
    with pytest.raises(KilledError):
        direct.complete(ticket)
    assert direct.jobs() == 1

    direct.rewire()
    if replacement is not None:
        (tmp_path / "other").write_bytes(replacement)
        direct.incoming.put(
            quarantine_key(ticket["upload_id"]), tmp_path / "other", content_type="image/jpeg"
        )
    job_id = direct.state(ticket)["job_id"]
    assert direct.complete(ticket).json()["job_id"] == job_id
    assert direct.jobs() == 1
    assert direct.quarantined() == []


@contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """The folder is away, as a volume may be."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


def test_while_the_quarantine_is_down_it_can_be_repeated(direct):
    ticket = direct.uploaded(JPEG)
    with unmounted(direct.front.settings.incoming):
        answer = direct.complete(ticket)
        assert (answer.status_code, direct.send(ticket, JPEG).status_code) == (503, 503)
        assert "Retry-After" in answer.headers
    assert direct.state(ticket)["status"] == "open"
    assert direct.complete(ticket).status_code == 202


class Keeping(LocalStorage):
    """A place from which nothing can be removed for now."""

    def delete(self, key: str) -> bool:
        raise StorageDownError(f"{key} stays.")


def test_a_quarantine_that_cannot_be_emptied_does_not_undo_the_job(direct):
    ticket = direct.uploaded(JPEG)
    direct.rewire(incoming=Keeping(direct.front.settings.incoming))
    assert direct.complete(ticket).status_code == 202
    assert direct.state(ticket)["status"] == "completed"


@pytest.mark.slow
def test_on_postgresql_many_at_once_are_one_job(make_front, postgres_url):
    direct = DirectFront(make_front(rate_limit_max_uploads=0, database_url=postgres_url))
    ticket = direct.uploaded(JPEG)
    answers = at_once(6, lambda: direct.complete(ticket))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert direct.jobs() == 1
    assert direct.quarantined() == []
