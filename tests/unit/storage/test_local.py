"""What the storage on disk does beside the contract: durability, full disks, links, killed writers."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from image_processor.errors import (
    InvalidKeyError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from image_processor.storage import local
from image_processor.storage.local import INCOMING, LocalStorage

KEY = "pictures/large/4f1c.webp"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "volume" / "root"


@pytest.fixture
def storage(root):
    return LocalStorage(root)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"picture")
    return path


def put(storage, source, key=KEY):
    return storage.put(key, source, content_type="image/webp")


def incoming(root):
    return list((root / INCOMING).iterdir())


def test_a_key_is_a_path_below_the_root(storage, root, source):
    put(storage, source)
    assert (root / KEY).read_bytes() == b"picture"
    assert incoming(root) == []


def test_files_follow_the_umask(storage, root, source):
    put(storage, source)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("key", "content_type"),
    [
        ("a.webp", "image/webp"),
        ("a.jpg", "image/jpeg"),
        ("a.JPEG", "image/jpeg"),
        ("a.tif", "image/tiff"),
        ("a.tiff", "image/tiff"),
        ("a.png", "image/png"),
        ("a.html", "application/octet-stream"),
        ("a.svg", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("png", "application/octet-stream"),
    ],
)
def test_the_content_type_is_that_of_the_extension(storage, source, key, content_type):
    stored = storage.put(key, source, content_type="text/html")
    assert stored.content_type == content_type
    assert storage.stat(key).content_type == content_type


def test_remembers_the_hash_where_the_file_system_can(storage, root, source):
    stored = put(storage, source)
    try:
        os.setxattr(root, "user.probe", b"1")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")
    assert storage.stat(KEY).sha256 == stored.sha256


def test_does_not_know_the_hash_of_a_file_from_other_hands(storage, root):
    (root / "a.webp").write_bytes(b"x")
    assert storage.stat("a.webp").sha256 is None


def test_an_open_object_outlives_its_replacement(storage, source):
    put(storage, source)
    with storage.open(KEY) as opened:
        source.write_bytes(b"another")
        put(storage, source)
        storage.delete(KEY)
        assert opened.read() == b"picture"


def test_delete_removes_the_folders_that_it_leaves_empty(storage, root, source):
    put(storage, source, "a/b/c/1.webp")
    put(storage, source, "a/2.webp")
    storage.delete("a/b/c/1.webp")
    assert sorted(path.name for path in root.rglob("*")) == [INCOMING, "2.webp", "a"]
    storage.delete("a/2.webp")
    assert [path.name for path in root.iterdir()] == [INCOMING]


def test_urls_begin_with_the_base(root):
    assert LocalStorage(root).url(KEY) == f"/storage/{KEY}"
    assert LocalStorage(root, base_url="https://cdn.example.org").url(KEY) == f"https://cdn.example.org/{KEY}"


def test_tells_the_room_of_its_file_system(storage, root):
    assert storage.free_bytes() == pytest.approx(shutil.disk_usage(root).free, rel=0.05)


def test_a_key_cannot_run_through_an_object(storage, root, source):
    put(storage, source, "a/b")
    for key in ("a/b/c", "a/b/c/d", "a"):
        with pytest.raises(InvalidKeyError, match="run through each other"):
            put(storage, source, key)
    assert list(storage.keys("")) == ["a/b"]
    assert incoming(root) == []


class TestDurability:
    @pytest.fixture
    def calls(self, monkeypatch):
        """What the storage asks of the operating system, in order: fsyncs by path, and replaces."""
        calls = []
        fsync, replace = os.fsync, os.replace

        def record_fsync(descriptor):
            calls.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
            fsync(descriptor)

        def record_replace(source, target, **folders):
            calls.append(("replace", target))
            replace(source, target, **folders)

        monkeypatch.setattr(os, "fsync", record_fsync)
        monkeypatch.setattr(os, "replace", record_replace)
        return calls

    def test_the_file_is_synced_before_it_is_visible_and_its_folders_after(
        self, storage, root, source, calls
    ):
        put(storage, source, "a/b/c.webp")
        (first, temporary), second, *folders = calls
        assert first == "fsync"
        assert temporary.parent == root / INCOMING
        assert second == ("replace", "c.webp")
        assert folders == [("fsync", root / "a" / "b"), ("fsync", root / "a"), ("fsync", root)]

    def test_a_delete_is_synced(self, storage, root, source, calls):
        put(storage, source)
        calls.clear()
        storage.delete(KEY)
        assert calls == [("fsync", (root / KEY).parent)]


class TestPlantedLinks:
    @pytest.fixture
    def outside(self, tmp_path):
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "secret.webp").write_bytes(b"secret")
        return folder

    def test_a_link_to_a_file_is_no_object(self, storage, root, outside):
        (root / "a").mkdir()
        (root / "a" / "link.webp").symlink_to(outside / "secret.webp")
        self.assert_absent(storage, "a/link.webp")
        assert (outside / "secret.webp").read_bytes() == b"secret"

    @pytest.mark.parametrize("key", ["link/secret.webp", "a/link/secret.webp"])
    def test_a_link_to_a_folder_leads_nowhere(self, storage, root, outside, key):
        link = root / Path(key).parent
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(outside, target_is_directory=True)
        self.assert_absent(storage, key)
        assert list(storage.keys(f"{Path(key).parent}/")) == []
        assert (outside / "secret.webp").read_bytes() == b"secret"

    def test_a_put_replaces_a_link_instead_of_following_it(self, storage, root, outside, source):
        (root / "link.webp").symlink_to(outside / "secret.webp")
        put(storage, source, "link.webp")
        assert not (root / "link.webp").is_symlink()
        assert (outside / "secret.webp").read_bytes() == b"secret"

    def test_a_put_does_not_go_through_a_linked_folder(self, storage, root, outside, source):
        (root / "link").symlink_to(outside, target_is_directory=True)
        with pytest.raises(InvalidKeyError):
            put(storage, source, "link/new.webp")
        with pytest.raises(InvalidKeyError):
            put(storage, source, "link/deeper/new.webp")
        assert [path.name for path in outside.iterdir()] == ["secret.webp"]
        assert incoming(root) == []

    def test_a_linked_incoming_folder_is_not_written_to(self, storage, root, outside, source):
        (root / INCOMING).rmdir()
        (root / INCOMING).symlink_to(outside, target_is_directory=True)
        with pytest.raises(StorageError):
            put(storage, source)
        with pytest.raises(StorageError):
            storage.sweep_incoming(0)
        assert [path.name for path in outside.iterdir()] == ["secret.webp"]

    def test_a_link_that_loops_is_no_object(self, storage, root):
        (root / "loop").symlink_to(root / "loop")
        self.assert_absent(storage, "loop")
        self.assert_absent(storage, "loop/a")

    def test_a_planted_fifo_does_not_hang_a_reader(self, storage, root):
        os.mkfifo(root / "a.webp")
        self.assert_absent(storage, "a.webp")

    def test_the_root_itself_may_be_a_link(self, tmp_path, outside, source):
        (tmp_path / "link").symlink_to(outside, target_is_directory=True)
        storage = LocalStorage(tmp_path / "link")
        put(storage, source)
        assert (outside / KEY).read_bytes() == b"picture"

    @staticmethod
    def assert_absent(storage, key):
        with pytest.raises(NotFoundError):
            storage.open(key)
        with pytest.raises(NotFoundError):
            storage.stat(key)
        assert storage.delete(key) is False
        assert key not in list(storage.keys(""))


class TestOutOfReach:
    def test_a_volume_that_is_gone_is_unavailable_and_not_made_anew(self, storage, root, source):
        shutil.rmtree(root)
        for call in (lambda: put(storage, source), lambda: storage.stat(KEY), lambda: list(storage.keys(""))):
            with pytest.raises(UnavailableError):
                call()
        assert not root.exists()

    def test_a_volume_that_is_not_mounted_is_not_written_to(self, storage, root, source):
        (root / INCOMING).rmdir()
        with pytest.raises(UnavailableError, match="mounted"):
            put(storage, source)
        assert list(root.iterdir()) == []

    def test_a_root_that_cannot_be_made_is_an_error(self, source):
        with pytest.raises(StorageError, match="make its folders"):
            LocalStorage(source / "root")

    @pytest.mark.parametrize(
        ("number", "error"),
        [
            (errno.ENOSPC, StorageFullError),
            (errno.EDQUOT, StorageFullError),
            (errno.EROFS, UnavailableError),
            (errno.ESTALE, UnavailableError),
            (errno.EIO, StorageError),
            (errno.EACCES, StorageError),
        ],
    )
    def test_what_the_system_says_becomes_one_of_ours(self, root, source, monkeypatch, number, error):
        storage = LocalStorage(root)

        def fail(*_arguments, **_folders):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(error) as raised:
            put(storage, source)
        assert isinstance(raised.value.__cause__, OSError)
        assert incoming(root) == []
        assert list(storage.keys("")) == []


class TestRaces:
    def test_a_put_makes_its_folder_again_when_a_delete_takes_it_away(
        self, storage, root, source, monkeypatch
    ):
        replace = os.replace
        taken = []

        def take_away_once(*arguments, **folders):
            if not taken:
                (root / KEY).parent.rmdir()
                taken.append(KEY)
            return replace(*arguments, **folders)

        monkeypatch.setattr(os, "replace", take_away_once)
        put(storage, source)
        assert taken
        assert storage.stat(KEY).size_bytes == 7

    def test_a_put_gives_up_when_its_folder_never_stays(self, storage, root, source, monkeypatch):
        replace = os.replace

        def take_away(*arguments, **folders):
            (root / KEY).parent.rmdir()
            return replace(*arguments, **folders)

        monkeypatch.setattr(os, "replace", take_away)
        monkeypatch.setattr(local, "PUBLISH_ATTEMPTS", 5)
        with pytest.raises(StorageError, match="vanishes"):
            put(storage, source)
        assert incoming(root) == []


class TestKilledWriters:
    @pytest.mark.slow
    def test_what_a_killed_process_left_is_invisible_and_swept(self, storage, root, tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        with start_put(root, fifo) as process, fifo.open("wb", buffering=0) as source:
            for _ in range(40):  # far more than a pipe holds: the child has copied most of it
                source.write(b"x" * 65536)
            process.send_signal(signal.SIGKILL)
            process.wait()
        (left,) = incoming(root)
        assert left.stat().st_size > 0
        assert list(storage.keys("")) == []
        with pytest.raises(NotFoundError):
            storage.stat(KEY)
        assert storage.sweep_incoming(3600) == 0
        assert storage.sweep_incoming(0) == 1
        assert incoming(root) == []

    def test_the_sweep_spares_what_is_young(self, storage, root):
        for name, age in (("old.part", 100), ("young.part", 10)):
            path = root / INCOMING / name
            path.touch()
            os.utime(path, (path.stat().st_mtime - age,) * 2)
        assert storage.sweep_incoming(50) == 1
        assert [path.name for path in incoming(root)] == ["young.part"]

    def test_a_put_that_was_swept_away_fails_without_a_trace(self, storage, root, tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        failures = []

        def write():
            try:
                put(storage, fifo)
            except StorageError as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        with fifo.open("wb", buffering=0) as source:
            for _ in range(40):
                source.write(b"x" * 65536)
            assert storage.sweep_incoming(-60) == 1
        writer.join()
        assert len(failures) == 1
        assert list(storage.keys("")) == []


class TestFullDisk:
    @pytest.mark.slow
    def test_a_full_disk_is_its_own_error_and_leaves_nothing(self, small_disk, tmp_path):
        storage = LocalStorage(small_disk / "root")
        source = tmp_path / "source"
        source.write_bytes(b"x" * 1024 * 1024)
        put(storage, source, "a/before.webp")
        free = storage.free_bytes()
        source.write_bytes(b"x" * 8 * 1024 * 1024)
        for key in (KEY, "a/before.webp"):
            with pytest.raises(StorageFullError):
                put(storage, source, key)
        assert incoming(small_disk / "root") == []
        assert list(storage.keys("")) == ["a/before.webp"]
        assert storage.stat("a/before.webp").size_bytes == 1024 * 1024
        assert storage.free_bytes() == free
        assert storage.delete("a/before.webp")

    @pytest.mark.slow
    def test_a_file_over_the_process_limit_leaves_nothing(self, storage, root, tmp_path):
        source = tmp_path / "source"
        source.write_bytes(b"x" * 300_000)
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
        with start_put(root, source, limit) as process:
            assert process.stderr.read().strip().endswith("The storage failed to write: File too large.")
        assert incoming(root) == []
        assert list(storage.keys("")) == []


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount the small disk that this fills")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def start_put(root, source, before="pass"):
    program = f"""
import sys
from pathlib import Path
from image_processor.storage.local import LocalStorage
{before}
LocalStorage(Path(sys.argv[1])).put({KEY!r}, Path(sys.argv[2]), content_type="image/webp")
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, str(root), str(source)], stderr=subprocess.PIPE, text=True
    )
