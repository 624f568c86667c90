"""Originals that are fetched for a job: checked on the way in, there whole or not at all, fetched once."""

import hashlib
import io
import threading

import pytest
from PIL import Image

from image_processor.errors import (
    CorruptImageError,
    EngineError,
    FileTooLargeError,
    ImageTooLargeError,
    SourceNotFoundError,
    SourceUnavailableError,
    StorageError,
    UnsupportedFormatError,
)
from image_processor.intake.stage import Stage
from image_processor.jobs.retry import History
from image_processor.jobs.values import Claim
from image_processor.locations import Locations
from image_processor.originals import FetchTurns, Originals
from image_processor.outbound import Outbound
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits
from image_processor.settings import Settings
from web_server import answer, serving

FREE = FetchTurns(2, lambda _user_id: False)

ACCEPTS = (ImageFormat.JPEG, ImageFormat.PNG)
LIMITS = Limits(max_bytes=1_000_000, max_side=1000)


def encoded(kind="PNG", size=(300, 200)):
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(file, kind)
    return file.getvalue()


PNG = encoded()


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path / "stage")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def originals(stage, root):
    networks = Settings(private_networks="127.0.0.0/8", _env_file=None).private_networks
    locations = Locations(
        file_roots=(root,),
        outbound=Outbound(private_networks=networks),
        buckets={}.__getitem__,
        fetch_timeout_seconds=30,
    )
    return Originals(stage=stage, locations=locations, accepts=ACCEPTS, limits=LIMITS, turns=FREE)


def a_claim(**fields):
    web = BUILTIN_PRESETS["web"]
    given = {
        "job_id": "job",
        "claim_seq": 1,
        "image_id": "image",
        "user_id": "ada",
        "worker_id": "worker",
        "history": History(attempt=1, max_retries=3),
        "preset": "web",
        "pipeline": web.pipeline,
        "pipeline_version": 1,
        "key_template": web.key_template,
        "source_uri": None,
        "source_format": None,
        "source_bytes": 0,
        "sha256": "",
        "bucket": "holiday",
        "staging_path": "0" * 32,
        "output_uri": None,
        "metadata": {},
        "created_at": "2026-07-31T12:00:00Z",
    }
    return Claim(**(given | fields))


def names(stage):
    return sorted(path.name for path in stage.directory.iterdir())


def wanted():
    """Somebody still wants it."""


def test_an_original_is_fetched_checked_and_staged_under_its_reserved_name(originals, stage, root):
    (root / "a.bin").write_bytes(PNG)
    claim = a_claim(source_uri=f"file://{root}/a.bin", staging_path=stage.new_name())
    original = originals.take(claim, wanted)
    assert original.name == claim.staging_path
    assert original.format is ImageFormat.PNG
    assert original.sha256 == hashlib.sha256(PNG).hexdigest()
    assert (original.size_bytes, original.header.width) == (len(PNG), 300)
    assert stage.path(original.name).read_bytes() == PNG
    assert names(stage) == [claim.staging_path]


def test_the_next_attempt_does_not_fetch_again(originals, stage):
    with serving({"/a": answer(PNG)}) as server:
        claim = a_claim(source_uri=f"http://127.0.0.1:{server.port}/a")
        first = originals.take(claim, wanted)
        assert originals.take(claim, wanted) == first
        assert server.connections == 1
    assert names(stage) == [claim.staging_path]


def test_an_upload_is_read_where_it_was_staged(originals, stage):
    file = stage.open(ACCEPTS, LIMITS)
    file.write(PNG)
    staged = file.finish()
    claim = a_claim(
        staging_path=staged.name, source_format=staged.format, source_bytes=len(PNG), sha256=staged.sha256
    )
    assert originals.take(claim, wanted) == staged
    stage.remove(staged.name)
    with pytest.raises(StorageError, match="cannot be read"):
        originals.take(claim, wanted)


BAD = {
    "absent": (None, SourceNotFoundError),
    "text": (b"hello " * 500, UnsupportedFormatError),
    "not accepted": (encoded("WEBP"), UnsupportedFormatError),
    "truncated": (PNG[:-40], CorruptImageError),
    "too many bytes": (PNG + bytes(LIMITS.max_bytes), FileTooLargeError),
    "too long a side": (encoded(size=(1001, 10)), ImageTooLargeError),
}


@pytest.mark.parametrize(("content", "error"), BAD.values(), ids=BAD)
def test_what_an_upload_would_be_refused_for_is_refused_and_leaves_nothing(
    originals, stage, root, content, error
):
    if content is not None:
        (root / "a").write_bytes(content)
    with pytest.raises(error):
        originals.take(a_claim(source_uri=f"file://{root}/a"), wanted)
    assert names(stage) == []


def test_a_fetch_that_breaks_off_leaves_nothing_and_the_next_one_is_whole(originals, stage):
    with serving({"/a": answer(PNG[:5000], length=len(PNG))}) as server:
        claim = a_claim(source_uri=f"http://127.0.0.1:{server.port}/a")
        with pytest.raises(SourceUnavailableError):
            originals.take(claim, wanted)
        assert names(stage) == []
        server.answers["/a"] = answer(PNG)
        assert originals.take(claim, wanted).size_bytes == len(PNG)


def test_a_fetch_that_nobody_wants_any_more_ends_between_chunks(originals, stage):
    ended = threading.Event()

    def endless(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + PNG[:5000])
        ended.wait(20)
        while not server.stopping.is_set():
            connection.sendall(b"x")

    calls = []

    def check_wanted():
        calls.append(names(stage))
        if len(calls) == 3:
            raise EngineError("The attempt was ended.")
        if len(calls) == 2:
            ended.set()

    with serving({"/a": endless}) as server, pytest.raises(EngineError):
        originals.take(a_claim(source_uri=f"http://127.0.0.1:{server.port}/a"), check_wanted)
    assert names(stage) == []
    assert calls[0] == []
    assert all("0" * 32 not in seen for seen in calls), "a reader could have seen half of it"


def test_what_stands_under_the_name_is_never_replaced(originals, stage, root):
    """An attempt that lost its lease may finish its fetch while the next one renders what it fetched."""
    (root / "a").write_bytes(PNG)
    other = encoded("JPEG")
    claim = a_claim(source_uri=f"file://{root}/a")
    late = stage.open(ACCEPTS, LIMITS, name=claim.staging_path)
    late.write(other)
    original = originals.take(claim, wanted)
    assert late.finish() == original
    late.discard()
    assert stage.path(claim.staging_path).read_bytes() == PNG
    assert names(stage) == [claim.staging_path]
