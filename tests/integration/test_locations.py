"""Files and buckets for real: links and devices in the way, full disks, and what readers see meanwhile."""

import ctypes
import os
import socket
import threading
from collections import Counter
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from image_processor.errors import (
    FileTooLargeError,
    InvalidRequestError,
    NotFoundError,
    SourceNotFoundError,
    SourceUnavailableError,
    StorageFullError,
    UnavailableError,
)
from image_processor.locations import Locations
from image_processor.outbound import Outbound
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from web_server import answer, serving

SECRET = b"root:x:0:0"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(SECRET)
    return folder


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def locations(root, storage):
    return Locations(
        file_roots=(root,),
        outbound=Outbound(private_networks=(ip_network("127.0.0.0/8"),)),
        buckets={"photos": storage}.__getitem__,
        fetch_timeout_seconds=30,
    )


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "variant.jpg"
    path.write_bytes(b"new picture")
    return path


def read(locations, uri, *, max_bytes=1_000_000):
    with locations.fetch(uri, max_bytes=max_bytes) as chunks:
        return b"".join(chunks)


def put(locations, uri, source):
    locations.put(locations.check_destination(uri), source, content_type="image/jpeg")


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_is_read_in_full(root, locations):
    content = os.urandom(700_000)
    (root / "a b.jpg").write_bytes(content)
    before = open_files()
    assert read(locations, f"file://{root}/a%20b.jpg") == content
    assert open_files() == before


def test_a_file_may_have_as_many_bytes_as_asked_for_and_no_more(root, locations):
    (root / "a").write_bytes(bytes(1000))
    assert len(read(locations, f"file://{root}/a", max_bytes=1000)) == 1000
    with pytest.raises(FileTooLargeError):
        read(locations, f"file://{root}/a", max_bytes=999)


def test_a_file_that_grows_while_it_is_read_ends_at_the_limit(root, locations):
    (root / "a").write_bytes(bytes(1000))
    with (root / "a").open("ab") as growing, locations.fetch(f"file://{root}/a", max_bytes=1000) as chunks:
        growing.write(bytes(1_000_000))
        growing.flush()
        with pytest.raises(FileTooLargeError):
            list(chunks)


def link_to_file(root):
    (root / "a").symlink_to(root.parent / "outside" / "secret.jpg")


def link_within(root):
    (root / "b").write_bytes(b"fine")
    (root / "a").symlink_to(root / "b")


def fifo(root):
    os.mkfifo(root / "a")


def folder(root):
    (root / "a").mkdir()


def listening_socket(root):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "a"))


def nothing(root):
    """There is nothing."""


def unreadable(root):
    (root / "a").write_bytes(SECRET)
    (root / "a").chmod(0)
    if os.access(root / "a", os.R_OK):
        pytest.skip("root reads everything")


@pytest.mark.parametrize(
    "make", [link_to_file, link_within, fifo, folder, listening_socket, nothing, unreadable]
)
def test_only_regular_files_are_read_and_nothing_blocks(root, locations, make, monkeypatch):
    monkeypatch.chdir(root)
    make(root)
    before = open_files()
    with pytest.raises(SourceNotFoundError):
        read(locations, f"file://{root}/a")
    assert open_files() == before


@pytest.mark.parametrize("target", ["../outside", "/", ".", "sub"])
def test_a_link_in_place_of_a_folder_leads_nowhere(root, locations, source, target):
    (root / "sub").mkdir()
    (root / "sub" / "secret.jpg").write_bytes(SECRET)
    (root / "link").symlink_to(target)
    before = everything(root.parent)
    with pytest.raises(SourceNotFoundError):
        read(locations, f"file://{root}/link/secret.jpg")
    with pytest.raises(InvalidRequestError):
        put(locations, f"file://{root}/link/secret.jpg", source)
    with pytest.raises(InvalidRequestError):
        put(locations, f"file://{root}/link/deeper/secret.jpg", source)
    with pytest.raises(InvalidRequestError):
        locations.remove(f"file://{root}/link/secret.jpg")
    assert everything(root.parent) == before
    assert (root.parent / "outside" / "secret.jpg").read_bytes() == SECRET


def exchange(one, other):
    """Swap what two names stand for, in one step of the kernel."""
    here, swap = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), swap):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_swapping_a_folder_for_a_link_meanwhile_never_leads_outside(root, locations, source):
    """A racer exchanges a folder and a link as fast as it can while others read and write through them."""
    name, link = root / "name", root / "link"
    name.mkdir()
    (name / "secret.jpg").write_bytes(b"fine")
    link.symlink_to(root.parent / "outside")
    done = threading.Event()

    def swap():
        while not done.is_set():
            exchange(name, link)

    racer = threading.Thread(target=swap)
    racer.start()
    seen = Counter()
    try:
        for number in range(600):
            with suppress(SourceNotFoundError):
                seen[read(locations, f"file://{root}/name/secret.jpg")] += 1
            with suppress(InvalidRequestError):
                put(locations, f"file://{root}/name/{number % 20}.jpg", source)
    finally:
        done.set()
        racer.join()
    assert set(seen) == {b"fine"}
    assert everything(root.parent / "outside") == ["secret.jpg"]


def test_a_file_is_written_with_its_folders_and_nothing_else(root, locations, source):
    put(locations, f"file://{root}/a/b/c.jpg", source)
    assert (root / "a" / "b" / "c.jpg").read_bytes() == b"new picture"
    assert everything(root) == ["a", "a/b", "a/b/c.jpg"]
    put(locations, f"file://{root}/a/b/c.jpg", source)
    assert everything(root) == ["a", "a/b", "a/b/c.jpg"]


def test_readers_see_the_old_file_or_the_new_one(root, locations, tmp_path):
    sizes = [100, 3_000_000]
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(bytes([number]) * size)
    wholes = {bytes([number]) * size for number, size in enumerate(sizes)}
    done = threading.Event()

    def write():
        while not done.is_set():
            for number in range(2):
                locations.put(f"file://{root}/a", tmp_path / str(number), content_type="image/jpeg")

    put(locations, f"file://{root}/a", tmp_path / "0")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all((root / "a").read_bytes() in wholes for _ in range(200))
    finally:
        done.set()
        writer.join()
    assert everything(root) == ["a"]


def test_a_link_under_the_name_of_an_output_is_neither_followed_nor_replaced(root, locations, source):
    link_to_file(root)
    for act in (
        lambda: put(locations, f"file://{root}/a", source),
        lambda: locations.remove(f"file://{root}/a"),
    ):
        with pytest.raises(InvalidRequestError, match="other than a file"):
            act()
    assert (root / "a").is_symlink()
    assert (root.parent / "outside" / "secret.jpg").read_bytes() == SECRET
    assert everything(root) == ["a"]


@pytest.mark.parametrize("make", [fifo, folder])
def test_what_is_no_file_is_not_replaced(root, locations, source, make):
    make(root)
    with pytest.raises(InvalidRequestError):
        put(locations, f"file://{root}/a", source)
    assert everything(root) == ["a"]


def test_a_file_in_place_of_a_folder_is_in_the_way(root, locations, source):
    (root / "a").write_bytes(b"")
    with pytest.raises(InvalidRequestError):
        put(locations, f"file://{root}/a/b.jpg", source)


def test_a_full_disk_is_said_to_be_full_and_nothing_is_left(root, locations, source, monkeypatch):
    (root / "a").write_bytes(b"old picture")
    monkeypatch.setattr("image_processor.locations.folders._write_all", full_disk_write)
    with pytest.raises(StorageFullError):
        put(locations, f"file://{root}/a", source)
    assert (root / "a").read_bytes() == b"old picture"
    assert everything(root) == ["a"]


def full_disk_write(file, chunk):
    """The kernel itself says it: every write to this device fails as on a full disk."""
    file.write(chunk[:1])
    with Path("/dev/full").open("wb", buffering=0) as full:
        full.write(chunk)


def test_file_systems_without_nameless_files_do_as_well(root, locations, source, monkeypatch):
    monkeypatch.setattr("image_processor.locations.folders._NAMELESS", os.O_WRONLY | os.O_DIRECTORY)
    put(locations, f"file://{root}/a", source)
    assert (root / "a").read_bytes() == b"new picture"
    monkeypatch.setattr("image_processor.locations.folders._write_all", full_disk_write)
    with pytest.raises(StorageFullError):
        put(locations, f"file://{root}/a", source)
    assert everything(root) == ["a"]


def test_what_is_written_is_on_the_disk_with_its_folders(root, locations, source, monkeypatch):
    synced = []
    real = os.fsync

    def watched(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    put(locations, f"file://{root}/a/b.jpg", source)
    expected = (root / "a" / "b.jpg", root / "a", root)
    assert synced == [path.stat().st_ino for path in expected]


def test_a_root_that_is_gone_is_waited_for(root, locations, source):
    root.rmdir()
    with pytest.raises(UnavailableError, match="mounted"):
        read(locations, f"file://{root}/a")
    with pytest.raises(UnavailableError, match="mounted"):
        put(locations, f"file://{root}/a", source)
    assert not root.exists()


def test_the_deepest_root_holds_the_file(tmp_path, locations, root):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_bytes(b"fine")
    (root / "in").symlink_to(other)
    both = Locations(
        file_roots=(root, root / "in"), outbound=Outbound(), buckets={}.__getitem__, fetch_timeout_seconds=1
    )
    assert read(both, f"file://{root}/in/a") == b"fine"
    with pytest.raises(SourceNotFoundError):
        read(locations, f"file://{root}/in/a")


def test_a_removed_file_is_gone_and_none_there_is_fine(root, locations, source):
    put(locations, f"file://{root}/a/b.jpg", source)
    for _ in range(2):
        locations.remove(f"file://{root}/a/b.jpg")
    locations.remove(f"file://{root}/absent/b.jpg")
    assert everything(root) == ["a"]


def test_nothing_is_fetched_or_put_past_the_check(locations, source):
    for uri in ("file:///etc/hostname", "file:///etc/../etc/hostname", "ftp://a/b", "s3://photos/../a"):
        with pytest.raises(Exception, match=r"\.$"):
            read(locations, uri)
        with pytest.raises(Exception, match=r"\.$"):
            locations.put(uri, source, content_type="image/jpeg")
        with pytest.raises(Exception, match=r"\.$"):
            locations.remove(uri)


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_an_object_is_put_fetched_and_removed(tmp_path, source, kind):
    storage = MemoryStorage() if kind == "memory" else LocalStorage(tmp_path / "storage")
    locations = Locations(
        file_roots=(), outbound=Outbound(), buckets={"photos": storage}.__getitem__, fetch_timeout_seconds=30
    )
    put(locations, "s3://photos/2026/a.jpg", source)
    assert storage.stat("2026/a.jpg").content_type == "image/jpeg"
    assert read(locations, "s3://photos/2026/a.jpg") == b"new picture"
    with pytest.raises(FileTooLargeError):
        read(locations, "s3://photos/2026/a.jpg", max_bytes=10)
    for _ in range(2):
        locations.remove("s3://photos/2026/a.jpg")
    with pytest.raises(NotFoundError):
        storage.stat("2026/a.jpg")
    with pytest.raises(SourceNotFoundError):
        read(locations, "s3://photos/2026/a.jpg")


def test_a_full_bucket_is_said_to_be_full(tmp_path, source):
    full = MemoryStorage(capacity_bytes=3)
    locations = Locations(
        file_roots=(), outbound=Outbound(), buckets={"photos": full}.__getitem__, fetch_timeout_seconds=30
    )
    with pytest.raises(StorageFullError):
        put(locations, "s3://photos/a.jpg", source)


def test_a_bucket_that_is_slow_ends_in_time(tmp_path, source):
    late = MemoryStorage()
    late.put("a", source, content_type="image/jpeg")
    locations = Locations(
        file_roots=(), outbound=Outbound(), buckets={"photos": late}.__getitem__, fetch_timeout_seconds=0
    )
    with pytest.raises(SourceUnavailableError, match="in time"):
        read(locations, "s3://photos/a")


def test_the_web_is_fetched(locations):
    with serving({"/a.jpg": answer(b"picture")}) as server:
        uri = locations.check_source(f"http://127.0.0.1:{server.port}/a.jpg")
        assert read(locations, uri) == b"picture"
        with pytest.raises(FileTooLargeError):
            read(locations, uri, max_bytes=3)
