"""What strangers may try with storages, direct uploads and the health page: bounded, refused, and silent."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from image_processor.api.routes.health import SharedLook
from image_processor.api.upload_schemas import PATH
from image_processor.direct_uploads import MAX_BODIES
from image_processor.errors import ConflictError, InvalidKeyError, NotFoundError, StorageFullError
from image_processor.s3_images.exceptions import ValidationException
from image_processor.s3_images.schemas import S3ImageUploadRequest, validated
from image_processor.settings import load_settings
from image_processor.storage.keys import KeyFields, KeyTemplate
from integration.api.direct import DirectFront, s3_settings, sha256
from integration.api.front import Front, InProcess, picture

JPEG = picture((80, 60))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[DirectFront]:
    """One for all: making it takes longer than what is done with it."""
    with closing(Front(tmp_path_factory.mktemp("strangers"), {"rate_limit_max_uploads": 0})) as front:
        yield DirectFront(front)


@pytest.fixture
def direct(place: DirectFront) -> Iterator[DirectFront]:
    yield place
    place.empty()


def _begin(direct: DirectFront, ticket: dict[str, Any]) -> Any:
    return direct.uploads.begin_body(ticket["upload_id"], ticket["max_bytes"])


def test_an_address_takes_few_bodies_at_once(direct):
    ticket, other = direct.opened(JPEG), direct.opened(JPEG)
    with ExitStack() as under_way:
        bodies = [under_way.enter_context(closing(_begin(direct, ticket))) for _ in range(MAX_BODIES)]
        with pytest.raises(ConflictError):
            _begin(direct, ticket)
        assert direct.send(ticket, JPEG).status_code == 409
        assert len(direct.staged()) == MAX_BODIES
        assert direct.send(other, JPEG).status_code == 204
        bodies[0].close()
        bodies[0].close()  # gives its room back once
        with closing(_begin(direct, ticket)), pytest.raises(ConflictError):
            _begin(direct, ticket)
    assert direct.staged() == []
    assert direct.send(ticket, JPEG).status_code == 204


def test_a_body_that_finds_no_room_takes_none(direct, monkeypatch):
    ticket = direct.opened(JPEG)

    def full(*_: object) -> None:
        raise StorageFullError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr("image_processor.direct_uploads.Body", full)
        for _ in range(MAX_BODIES + 1):
            with pytest.raises(StorageFullError):
                _begin(direct, ticket)
    assert direct.send(ticket, JPEG).status_code == 204


@pytest.mark.parametrize(
    "change",
    [
        lambda url: f"{url}&max_bytes=99999999",
        lambda url: f"{url}&signature=x",
        lambda url: url.replace("max_bytes=", "max_bytes=%2B"),
        lambda url: url.replace("max_bytes=", "max_bytes=-"),
        lambda url: url.replace("expires_at=", "expires_at=%D9%A1"),  # an Arabic digit one
        lambda url: url.replace("expires_at=", "expires_at=9"),
        lambda url: url.replace("expires_at=", f"expires_at={'9' * 5000}"),
        lambda url: url.replace("content_type=image%2Fjpeg", "content_type=text%2Fhtml"),
        lambda url: url.replace("signature=", "signature=%ed%a0%80"),
        lambda url: url.replace("signature=", "Signature="),
        lambda url: url.upper().replace("/API/V1/IMAGES/UPLOADS", PATH).replace("/CONTENT?", "/content?"),
    ],
)
def test_no_other_spelling_of_an_address_is_an_address(direct, change):
    ticket = direct.opened(JPEG)
    answer = direct.send(ticket | {"url": change(ticket["url"])}, JPEG)
    assert answer.status_code == 403, answer.text
    assert direct.quarantined() == []


def test_the_address_of_one_upload_is_none_of_another(direct):
    ticket, other = direct.opened(JPEG), direct.opened(JPEG)
    moved = ticket["url"].replace(ticket["upload_id"], other["upload_id"])
    assert direct.send(ticket | {"url": moved}, JPEG).status_code == 403


@pytest.mark.parametrize("before", ["", "%49NCOMING/../", "/", "./", "x/../", "%2e%2e/incoming/"])
def test_what_is_not_accepted_is_never_served(direct, before):
    page = b"<script>alert(1)</script>"
    ticket = direct.uploaded(page)
    upload_id = ticket["upload_id"]
    for folder in ("INCOMING/uploads", "%49NCOMING/uploads", "INCOMING%2Fuploads", "incoming/uploads"):
        answer = direct.client(None).get(f"/storage/{before}{folder}/{upload_id}")
        assert answer.status_code == 404
        assert page not in answer.content


def test_an_upload_that_has_ended_takes_nothing_more(direct):
    ticket = direct.uploaded(JPEG, sha256=sha256(JPEG).upper())
    assert direct.complete(ticket).status_code == 202
    assert direct.send(ticket, JPEG).status_code == 409
    assert direct.quarantined() == []


@dataclass
class Counting:
    """A storage whose checks are counted."""

    storage: Any
    checks: int = 0

    def check(self) -> None:
        self.checks += 1
        self.storage.check()

    def free_bytes(self) -> int | None:
        return self.storage.free_bytes()


def test_many_who_ask_for_our_health_cost_one_look(direct):
    storage = Counting(direct.front.app.storage)
    look = SharedLook(replace(direct.front.app, storage=storage))

    async def ask() -> list[str]:
        return await asyncio.gather(*(look.state() for _ in range(200)))

    assert Counter(asyncio.run(ask())) == {"ok": 200}
    assert storage.checks == 1
    assert asyncio.run(ask()) == ["ok"] * 200  # a later question is answered anew, in another loop too
    assert storage.checks == 2


def test_one_who_leaves_does_not_end_the_look_of_others(direct):
    look = SharedLook(direct.front.app)

    async def ask() -> str:
        leaves, stays = (asyncio.create_task(look.state()) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        return await stays

    assert asyncio.run(ask()) == "ok"


SECRETS = {
    "jwt_secret_key": "hush-jwt",
    "webhook_secret": "hush-hook",
    "aws_secret_access_key": "hush-aws",
    "aws_session_token": "hush-token",
    "database_url": "postgresql://me:hush-database@127.0.0.1/name",
    "redis_url": "redis://:hush-redis@127.0.0.1/0",
    "celery_broker_url": "redis://:hush-celery@127.0.0.1/0",
}


def test_settings_that_are_shown_show_no_secret():
    settings = load_settings(**SECRETS)
    assert "hush" not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("IN{original_name}/{hash}", KeyFields(original_name="COMING.jpg", hash="ab")),
        ("{original_name}{ext}/{hash}", KeyFields(original_name="INCOM", ext="ING", hash="ab")),
        ("{size}/{hash}", KeyFields(size="INCOMING", hash="ab")),
    ],
)
def test_no_template_leads_into_the_quarantine(template, fields):
    with pytest.raises(InvalidKeyError):
        KeyTemplate(template).render(fields)


@pytest.mark.parametrize("metadata", [{"a": "\ud800"}, {"\ud800": 1}, {"a": float("nan")}])
def test_metadata_that_could_not_be_handed_back_is_refused(metadata):
    with pytest.raises(ValidationException):
        validated(S3ImageUploadRequest, {"filename": "a.jpg", "metadata": metadata})


@pytest.fixture(scope="module")
def bucket_front(s3, tmp_path_factory) -> Iterator[Front]:
    with closing(Front(tmp_path_factory.mktemp("bucket"), s3_settings(s3, "post"))) as front:
        yield front


def _anonymous(front: Front) -> httpx.Client:
    return httpx.Client(transport=InProcess(front.api), base_url="http://testserver")


@pytest.mark.slow
def test_a_flood_of_missing_files_is_no_flood_of_listings(bucket_front):
    asked: Counter[str] = Counter()
    events = bucket_front.app.storage.client.meta.events

    def count(event_name: str, **_: object) -> None:
        asked[event_name.rpartition(".")[2]] += 1

    events.register("before-send.s3", count)
    try:
        with _anonymous(bucket_front) as client:
            for number in range(10):
                assert client.get(f"/storage/missing/{number}.webp").status_code == 404
    finally:
        events.unregister("before-send.s3", count)
    assert asked["HeadObject"] == 10
    assert asked["ListObjectsV2"] <= 1


@pytest.mark.slow
def test_a_page_in_the_bucket_is_no_page_from_us(bucket_front):
    bucket = bucket_front.settings.s3_bucket
    bucket_front.app.storage.client.put_object(
        Bucket=bucket, Key="x/page.html", Body=b"<script>", ContentType="text/html"
    )
    with _anonymous(bucket_front) as client:
        answer = client.get("/storage/x/page.html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"key": "images/evil.html"},
        {"key": "INCOMING/uploads/somebody-else"},
        {"Content-Type": "text/html"},
        {"x-amz-meta-sha256": "0" * 64},
    ],
)
def test_a_form_takes_nothing_but_what_it_was_signed_for(bucket_front, change):
    direct = DirectFront(bucket_front)
    ticket = direct.opened(JPEG)
    assert direct.send(ticket | {"fields": ticket["fields"] | change}, JPEG).status_code in {400, 403}
    with pytest.raises(NotFoundError):
        direct.incoming.stat(f"INCOMING/uploads/{ticket['upload_id']}")
