"""The way of a file into the stage: checked as it comes, durable when it is in, and nothing left when not."""

import errno
import hashlib
import io
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from image_processor.errors import (
    CorruptImageError,
    FileTooLargeError,
    ImageProcessorError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidRequestError,
    Retry,
    StorageError,
    StorageFullError,
    UnsupportedFormatError,
)
from image_processor.intake.probe import Header
from image_processor.intake.sniff import SNIFF_BYTES
from image_processor.intake.stage import Stage, check_file
from image_processor.pipeline import ImageFormat, Limits

ACCEPTS = (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP)
LIMITS = Limits(max_bytes=1_000_000)


def encoded(kind="PNG", size=(40, 30), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(file, kind, **options)
    return file.getvalue()


PNG = encoded(size=(200, 150))


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path / "stage")


def names(stage):
    return sorted(path.name for path in stage.directory.iterdir())


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def write_all(file, content, step=1000):
    for start in range(0, len(content), step):
        file.write(content[start : start + step])


def test_a_staged_file_is_what_was_written(stage):
    file = stage.open(ACCEPTS, LIMITS)
    write_all(file, PNG)
    original = file.finish()
    assert stage.path(original.name).read_bytes() == PNG
    assert names(stage) == [original.name]
    assert original.format is ImageFormat.PNG
    assert original.size_bytes == len(PNG)
    assert original.sha256 == hashlib.sha256(PNG).hexdigest()
    assert original.header == Header(width=200, height=150)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("step", [1, 7, SNIFF_BYTES - 1, SNIFF_BYTES, SNIFF_BYTES + 1, 10**6])
def test_the_cuts_between_chunks_change_nothing(stage, kind, step):
    content = encoded(kind)
    file = stage.open(ACCEPTS, LIMITS)
    write_all(file, content, step)
    original = file.finish()
    assert stage.path(original.name).read_bytes() == content
    assert original.format == ImageFormat(kind.lower())


def test_a_file_shorter_than_what_is_sniffed_is_known_too(stage):
    content = encoded("PNG", (1, 1))
    assert len(content) < SNIFF_BYTES
    file = stage.open(ACCEPTS, LIMITS)
    file.write(content)
    assert file.finish().header == Header(width=1, height=1)


def test_names_are_random_and_say_nothing(stage):
    files = [stage.open(ACCEPTS, LIMITS) for _ in range(50)]
    staged = names(stage)
    assert len(set(staged)) == 50
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in staged)
    for file in files:
        file.discard()


def test_the_limit_holds_to_the_byte(stage):
    exact = stage.open(ACCEPTS, Limits(max_bytes=len(PNG)))
    write_all(exact, PNG)
    assert exact.finish().size_bytes == len(PNG)
    short = stage.open(ACCEPTS, Limits(max_bytes=len(PNG) - 1))
    with pytest.raises(FileTooLargeError) as refused:
        write_all(short, PNG)
    assert refused.value.details == {"max_bytes": len(PNG) - 1}
    short.discard()
    assert len(names(stage)) == 1


def test_what_passes_the_limit_is_never_written(stage):
    file = stage.open(ACCEPTS, Limits(max_bytes=1000))
    file.write(PNG[:1000])
    with pytest.raises(FileTooLargeError, match="larger than"):
        file.write(bytes(10**6))
    assert stage.path(names(stage)[0]).stat().st_size == 1000
    file.discard()


def test_the_limit_is_said_in_megabytes(stage):
    file = stage.open(ACCEPTS, Limits(max_bytes=512 * 1024))
    with pytest.raises(FileTooLargeError, match=r"larger than 0\.5 MB"):
        file.write(bytes(600_000))
    file.discard()


def test_a_wrong_type_is_refused_at_its_first_bytes(stage):
    file = stage.open(ACCEPTS, LIMITS)
    file.write(b"%PDF-1.7" + bytes(SNIFF_BYTES - 9))
    with pytest.raises(
        UnsupportedFormatError, match="a PDF document; accepted are JPEG, PNG, WebP"
    ) as refused:
        file.write(b"\x00")
    assert refused.value.details == {"accepted": ["image/jpeg", "image/png", "image/webp"]}
    assert stage.path(names(stage)[0]).stat().st_size < SNIFF_BYTES, "the refused chunk was written"
    file.discard()
    assert names(stage) == []


def test_an_image_that_is_not_accepted_is_refused_like_any_other_file(stage):
    file = stage.open((ImageFormat.JPEG,), LIMITS)
    with pytest.raises(UnsupportedFormatError, match="a PNG image; accepted are JPEG"):
        file.write(PNG)
    file.discard()


BAD_FILES = {
    "empty": (b"", InvalidRequestError, "empty"),
    "one byte": (b"\xff", UnsupportedFormatError, "accepted are"),
    "text": (b"hello", UnsupportedFormatError, "text"),
    "zeros": (bytes(100), UnsupportedFormatError, "accepted are"),
    "only the magic": (b"\x89PNG\r\n\x1a\n", CorruptImageError, "PNG"),
    "a JPEG's first bytes": (b"\xff\xd8\xff", CorruptImageError, "JPEG"),
    "a PNG without its end": (PNG[:-40], CorruptImageError, "truncated"),
    "a WebP without its end": (encoded("WEBP")[:-40], CorruptImageError, "WebP"),
    "a JPEG's header alone": (encoded("JPEG")[:200], CorruptImageError, "JPEG"),
    "a side of nothing": (PNG[:16] + bytes(4) + PNG[20:], CorruptImageError, "PNG"),
}


@pytest.mark.parametrize(("content", "error", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_at_its_end_and_leaves_nothing(stage, content, error, words):
    file = stage.open(ACCEPTS, LIMITS)
    write_all(file, content, 100)
    with pytest.raises(error, match=words):
        file.finish()
    file.discard()
    assert names(stage) == []


OUTSIDE = {
    "too many pixels": (Limits(max_pixels=29_999), ImageTooLargeError),
    "too long a side": (Limits(max_side=199), ImageTooLargeError),
    "too short a side": (Limits(min_side=151), ImageTooSmallError),
}


@pytest.mark.parametrize(("limits", "error"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_a_picture_outside_the_limits_is_refused(stage, limits, error):
    file = stage.open(ACCEPTS, limits)
    write_all(file, PNG)
    with pytest.raises(error, match="200 x 150"):
        file.finish()
    file.discard()
    assert names(stage) == []


def test_too_many_frames_are_refused(stage):
    frames = [Image.new("RGB", (20, 20), (number * 60, 0, 0)) for number in range(1, 5)]
    content = encoded("WEBP", (20, 20), save_all=True, append_images=frames)
    file = stage.open(ACCEPTS, Limits(max_frames=4))
    file.write(content)
    with pytest.raises(ImageTooLargeError, match="5 frames"):
        file.finish()
    file.discard()


def test_the_file_and_then_its_folder_are_on_the_disk_before_finish_returns(stage, monkeypatch):
    synced = []
    real = os.fsync

    def watched(descriptor):
        mode = os.fstat(descriptor)
        synced.append(("folder" if stat.S_ISDIR(mode.st_mode) else "file", mode.st_ino, mode.st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    file = stage.open(ACCEPTS, LIMITS)
    write_all(file, PNG)
    assert synced == []
    path = stage.path(file.finish().name)
    assert [(kind, inode) for kind, inode, _ in synced] == [
        ("file", path.stat().st_ino),
        ("folder", stage.directory.stat().st_ino),
    ]
    assert synced[0][2] == len(PNG)


def test_finish_closes_the_file(stage):
    before = open_files()
    file = stage.open(ACCEPTS, LIMITS)
    write_all(file, PNG)
    file.finish()
    assert open_files() == before


def unwritten(file):
    """Nothing happened yet."""


def half(file):
    file.write(PNG[: len(PNG) // 2])


def refused_type(file):
    with pytest.raises(UnsupportedFormatError):
        file.write(b"no picture" * 100)


def refused_size(file):
    with pytest.raises(FileTooLargeError):
        file.write(bytes(LIMITS.max_bytes + 1))


def refused_end(file):
    file.write(PNG[:-20])
    with pytest.raises(CorruptImageError):
        file.finish()


def finished(file):
    file.write(PNG)
    file.finish()


def discarded(file):
    file.write(PNG)
    file.discard()


@pytest.mark.parametrize(
    "bring", [unwritten, half, refused_type, refused_size, refused_end, finished, discarded]
)
def test_discard_leaves_nothing_in_every_state(stage, bring):
    descriptors = open_files()
    file = stage.open(ACCEPTS, LIMITS)
    bring(file)
    file.discard()
    file.discard()
    assert names(stage) == []
    assert open_files() == descriptors


def test_discard_spares_the_neighbours(stage):
    kept = stage.open(ACCEPTS, LIMITS)
    write_all(kept, PNG)
    name = kept.finish().name
    stage.open(ACCEPTS, LIMITS).discard()
    assert names(stage) == [name]


def test_remove_takes_a_name_away_and_is_content_without_one(stage):
    file = stage.open(ACCEPTS, LIMITS)
    write_all(file, PNG)
    name = file.finish().name
    stage.remove(name)
    stage.remove(name)
    assert names(stage) == []


def test_only_old_files_are_named(stage):
    ages = {"young": 10, "old": 5000, "older": 9000}
    for name, seconds in ages.items():
        path = stage.directory / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - seconds,) * 2)
    (stage.directory / "folder").mkdir()
    os.utime(stage.directory / "folder", (0, 0))
    assert sorted(stage.names_older_than(3600)) == ["old", "older"]
    assert sorted(stage.names_older_than(0)) == ["old", "older", "young"]
    assert stage.names_older_than(10_000) == []


def test_a_file_that_is_still_written_to_is_young(stage):
    file = stage.open(ACCEPTS, LIMITS)
    os.utime(stage.path(names(stage)[0]), (0, 0))
    assert stage.names_older_than(3600) == names(stage)
    file.write(PNG)
    assert stage.names_older_than(3600) == []
    file.discard()


def test_a_disk_that_is_nearly_full_takes_nothing_in(tmp_path):
    stage = Stage(tmp_path / "stage", min_free_bytes=2**62)
    with pytest.raises(StorageFullError, match="nearly full"):
        stage.open(ACCEPTS, LIMITS)
    assert names(stage) == []


def test_a_disk_that_runs_full_meanwhile_is_said_to_be_full(stage):
    file = stage.open(ACCEPTS, LIMITS)
    with Path("/dev/full").open("r+b", buffering=0) as full:  # every write to it fails as on a full disk
        file._file.close()
        file._file = full
        with pytest.raises(StorageFullError, match="no room"):
            file.write(PNG)
    file.discard()
    assert names(stage) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="could not be staged"):
        Stage(tmp_path / "file" / "stage")


def test_a_folder_that_was_taken_away_is_a_storage_error(stage):
    stage.directory.rmdir()
    for call in (lambda: stage.open(ACCEPTS, LIMITS), lambda: stage.names_older_than(0)):
        with pytest.raises(StorageError):
            call()
    stage.remove("gone")


def test_a_stage_finds_what_an_earlier_one_left(tmp_path):
    file = Stage(tmp_path).open(ACCEPTS, LIMITS)
    write_all(file, PNG)
    name = file.finish().name
    assert Stage(tmp_path).path(name).read_bytes() == PNG


@given(
    content=st.binary(max_size=2000),
    cut=st.integers(1, 700),
    head=st.sampled_from([b"", PNG[:60], b"\xff\xd8\xff\xe0", b"RIFF"]),
)
def test_whatever_is_written_is_staged_or_refused_in_our_words(tmp_path_factory, content, cut, head):
    stage = Stage(tmp_path_factory.getbasetemp() / "anything")
    file = stage.open(ACCEPTS, Limits(max_bytes=1500))
    refusals = []
    try:
        write_all(file, head + content, cut)
        file.finish()
    except ImageProcessorError as error:
        refusals.append(error.retry)
    file.discard()
    assert names(stage) == []
    assert refusals in ([], [Retry.NEVER])


@pytest.mark.parametrize(("content", "error", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_check_file_refuses_what_an_upload_would_be_refused_for(tmp_path, content, error, words):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        check_file(path, ACCEPTS, LIMITS)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("limits", "error"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_check_file_keeps_the_limits(tmp_path, limits, error):
    path = tmp_path / "holiday.png"
    path.write_bytes(PNG)
    with pytest.raises(error):
        check_file(path, ACCEPTS, limits)


def test_check_file_gives_format_and_header(tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(PNG)
    assert check_file(path, ACCEPTS, Limits(max_bytes=len(PNG))) == (
        ImageFormat.PNG,
        Header(width=200, height=150),
    )


def test_check_file_names_the_file_that_is_too_large(tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(PNG)
    with pytest.raises(FileTooLargeError, match=r"holiday\.jpg is larger than"):
        check_file(path, ACCEPTS, Limits(max_bytes=len(PNG) - 1))


def test_check_file_names_what_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(CorruptImageError, match=f"{path.name} cannot be read"):
            check_file(path, ACCEPTS, LIMITS)


def test_a_name_stands_for_a_file_only_once_it_is_finished(stage):
    name = stage.new_name()
    file = stage.open(ACCEPTS, LIMITS, name=name)
    write_all(file, PNG)
    assert stage.adopt(name, ACCEPTS, LIMITS) is None
    assert name not in names(stage)
    original = file.finish()
    assert original.name == name
    assert names(stage) == [name]
    assert stage.adopt(name, ACCEPTS, LIMITS) == original
    file.discard()
    assert names(stage) == []


def test_a_file_system_without_links_names_files_as_well(stage, monkeypatch):
    def refuse(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file = stage.open(ACCEPTS, LIMITS, name="f" * 32)
    write_all(file, PNG)
    assert file.finish().name == "f" * 32
    assert names(stage) == ["f" * 32]


def test_the_name_of_another_s_file_is_left_to_it(stage):
    first, second = (stage.open(ACCEPTS, LIMITS, name="f" * 32) for _ in range(2))
    write_all(first, PNG)
    write_all(second, encoded("JPEG"))
    original = first.finish()
    assert second.finish() == original
    second.discard()
    assert stage.path("f" * 32).read_bytes() == PNG
    assert names(stage) == ["f" * 32]


@pytest.mark.parametrize(("content", "error", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_what_is_adopted_is_checked_anew(stage, content, error, words):
    stage.path("f" * 32).write_bytes(content)
    with pytest.raises(error, match=words):
        stage.adopt("f" * 32, ACCEPTS, LIMITS)
