"""What every storage must do, as executable tests that need nothing but plain asserts."""
# ruff: noqa: D102 - a test's name is its docstring

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from image_processor.errors import ImageProcessorError, InvalidKeyError, NotFoundError
from image_processor.storage.base import Storage

MIB = 1024 * 1024
KEY = "pictures/processed/large/4f1c_large.webp"
NO_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "..",
    ".",
    "../outside.webp",
    "a/../../outside.webp",
    "a/./b.webp",
    "a//b.webp",
    "a/",
    "a/..",
    "a..b",
    ".hidden/a.webp",
    "a/.hidden",
    ".incoming/a.part",
    "a\\..\\b.webp",
    "C:\\windows",
    "a\x00.webp",
    "a\n",
    "a b.webp",
    "a%2e%2e/b.webp",
    "~/a.webp",
    "-rf/a.webp",
    "a*.webp",
    "ä.webp",
    "a/\u2024\u2024/b",
    "a" * 256,
    "a/" * 600 + "a",
    "a/" * 32 + "a",
)
"""Strings that must be refused as keys by every method."""


class StorageContract:
    """
    Subclass it in a test module and give it a fixture `storage`, an empty storage for each test.

    `tmp_path` is pytest's own; without pytest, call each method with an empty storage and an empty folder.
    """

    def test_gives_back_the_bytes_that_were_put(self, storage: Storage, tmp_path: Path) -> None:
        put = storage.put(KEY, _file(tmp_path, b"picture"), content_type="image/webp")
        assert _content(storage, KEY) == b"picture"
        assert put.key == KEY
        assert put.size_bytes == 7
        assert put.sha256 == hashlib.sha256(b"picture").hexdigest()
        assert put.content_type == "image/webp"

    def test_stat_knows_what_put_said(self, storage: Storage, tmp_path: Path) -> None:
        put = storage.put(KEY, _file(tmp_path, b"picture"), content_type="image/webp")
        found = storage.stat(KEY)
        assert (found.key, found.size_bytes, found.content_type) == (KEY, 7, "image/webp")
        assert found.sha256 in (put.sha256, None)
        assert abs(found.modified_at - put.modified_at) < 5

    def test_leaves_the_source_as_it_was(self, storage: Storage, tmp_path: Path) -> None:
        source = _file(tmp_path, b"picture")
        storage.put(KEY, source, content_type="image/webp")
        assert source.read_bytes() == b"picture"

    def test_put_replaces(self, storage: Storage, tmp_path: Path) -> None:
        storage.put(KEY, _file(tmp_path, b"a long first picture"), content_type="image/webp")
        storage.put(KEY, _file(tmp_path, b"second"), content_type="image/webp")
        assert _content(storage, KEY) == b"second"
        assert storage.stat(KEY).size_bytes == 6
        assert list(storage.keys("")) == [KEY]

    def test_open_is_seekable(self, storage: Storage, tmp_path: Path) -> None:
        storage.put(KEY, _file(tmp_path, b"0123456789"), content_type="image/webp")
        with storage.open(KEY) as opened:
            assert opened.seekable()
            assert opened.seek(-3, 2) == 7
            assert opened.read() == b"789"
            assert opened.seek(2) == 2
            assert opened.read(3) == b"234"

    def test_keeps_an_empty_object(self, storage: Storage, tmp_path: Path) -> None:
        storage.put(KEY, _file(tmp_path, b""), content_type="image/webp")
        assert storage.stat(KEY).size_bytes == 0
        assert _content(storage, KEY) == b""

    def test_keeps_a_large_object(self, storage: Storage, tmp_path: Path) -> None:
        content = hashlib.shake_256(b"large").digest(MIB) * 16
        put = storage.put(KEY, _file(tmp_path, content), content_type="image/webp")
        assert put.size_bytes == 16 * MIB
        assert _content(storage, KEY) == content

    def test_what_is_missing_is_not_found(self, storage: Storage, tmp_path: Path) -> None:
        storage.put("a/b.webp", _file(tmp_path, b"x"), content_type="image/webp")
        for missing in (KEY, "a", "a/b", "a/b.web", "a/b.webp2", "a/c.webp", "b.webp"):
            with _refused(NotFoundError, missing):
                _content(storage, missing)
            with _refused(NotFoundError, missing):
                storage.stat(missing)
            assert storage.delete(missing) is False, missing
        assert list(storage.keys("")) == ["a/b.webp"]

    def test_delete_says_whether_there_was_one(self, storage: Storage, tmp_path: Path) -> None:
        storage.put(KEY, _file(tmp_path, b"x"), content_type="image/webp")
        assert storage.delete(KEY) is True
        assert storage.delete(KEY) is False
        assert list(storage.keys("")) == []
        with _refused(NotFoundError, KEY):
            storage.stat(KEY)

    def test_delete_spares_the_neighbours(self, storage: Storage, tmp_path: Path) -> None:
        for key in ("a/b/1.webp", "a/b/2.webp", "a/3.webp"):
            storage.put(key, _file(tmp_path, b"x"), content_type="image/webp")
        storage.delete("a/b/1.webp")
        assert sorted(storage.keys("")) == ["a/3.webp", "a/b/2.webp"]
        storage.delete("a/b/2.webp")
        assert list(storage.keys("")) == ["a/3.webp"]

    def test_a_key_can_come_back(self, storage: Storage, tmp_path: Path) -> None:
        for content in (b"first", b"second"):
            storage.put(KEY, _file(tmp_path, content), content_type="image/webp")
            assert _content(storage, KEY) == content
            storage.delete(KEY)

    def test_lists_by_whole_segments(self, storage: Storage, tmp_path: Path) -> None:
        keys = ["a/b/1.webp", "a/b/c/2.webp", "a/bc/3.webp", "ab/4.webp", "a.webp"]
        for key in keys:
            storage.put(key, _file(tmp_path, b"x"), content_type="image/webp")
        assert sorted(storage.keys("")) == sorted(keys)
        assert sorted(storage.keys("a/")) == ["a/b/1.webp", "a/b/c/2.webp", "a/bc/3.webp"]
        assert sorted(storage.keys("a/b/")) == ["a/b/1.webp", "a/b/c/2.webp"]
        assert list(storage.keys("b/")) == []
        assert list(storage.keys("a/b/1.webp/")) == []

    def test_a_listing_tells_size_and_time(self, storage: Storage, tmp_path: Path) -> None:
        put = storage.put(KEY, _file(tmp_path, b"picture"), content_type="image/webp")
        (found,) = storage.objects("pictures/")
        assert (found.key, found.size_bytes) == (KEY, 7)
        assert abs(found.modified_at - put.modified_at) < 5
        assert list(storage.objects("picture/")) == []

    def test_answers(self, storage: Storage) -> None:
        storage.check()

    def test_what_is_listed_can_be_deleted_on_the_way(self, storage: Storage, tmp_path: Path) -> None:
        for number in range(20):
            storage.put(f"a/{number % 3}/{number}.webp", _file(tmp_path, b"x"), content_type="image/webp")
        for key in storage.keys("a/"):
            storage.delete(key)
        assert list(storage.keys("")) == []

    def test_refuses_what_is_no_prefix(self, storage: Storage) -> None:
        for prefix in ("a", "a/b", "/", "../", "a/../", "a//", "/a/", ".incoming/", "*/"):
            with _refused(InvalidKeyError, prefix):
                list(storage.keys(prefix))

    def test_refuses_what_is_no_key(self, storage: Storage, tmp_path: Path) -> None:
        source = _file(tmp_path, b"x")
        calls: tuple[Callable[[str], object], ...] = (
            lambda key: storage.put(key, source, content_type="image/webp"),
            storage.open,
            storage.stat,
            storage.delete,
            storage.url,
        )
        for key in NO_KEYS:
            for call in calls:
                with _refused(InvalidKeyError, key):
                    call(key)
        assert list(storage.keys("")) == []

    def test_keeps_the_longest_keys(self, storage: Storage, tmp_path: Path) -> None:
        longest = "/".join(letter * 255 for letter in "abcd")
        deepest = "/".join("abcdefgh" * 4)
        for key in (longest, deepest):
            storage.put(key, _file(tmp_path, key.encode()), content_type="image/webp")
            assert _content(storage, key) == key.encode()
        assert sorted(storage.keys("")) == sorted((longest, deepest))

    def test_a_failing_put_leaves_nothing(self, storage: Storage, tmp_path: Path) -> None:
        for source in (tmp_path / "missing", tmp_path):
            with _refused(ImageProcessorError, str(source)):
                storage.put(KEY, source, content_type="image/webp")
        assert list(storage.keys("")) == []

    def test_a_failing_put_leaves_what_was_there(self, storage: Storage, tmp_path: Path) -> None:
        storage.put(KEY, _file(tmp_path, b"before"), content_type="image/webp")
        with _refused(ImageProcessorError, KEY):
            storage.put(KEY, tmp_path / "missing", content_type="image/webp")
        assert _content(storage, KEY) == b"before"

    def test_concurrent_puts_of_one_key_end_whole(self, storage: Storage, tmp_path: Path) -> None:
        contents = [bytes([number]) * (256 * 1024 + number) for number in range(6)]
        sources = [_file(tmp_path, content) for content in contents]
        seen: list[bytes] = []

        def put(source: Path) -> None:
            for _ in range(5):
                storage.put(KEY, source, content_type="image/webp")
                seen.append(_content(storage, KEY))

        _in_threads([partial(put, source) for source in sources])
        assert set(seen) <= set(contents)
        assert len(seen) == 30
        assert _content(storage, KEY) in contents
        assert list(storage.keys("")) == [KEY]

    def test_puts_and_deletes_side_by_side_lose_nothing(self, storage: Storage, tmp_path: Path) -> None:
        source = _file(tmp_path, b"x")

        def come_and_go(name: str) -> None:
            for _ in range(40):
                storage.put(f"a/b/{name}.webp", source, content_type="image/webp")
                assert storage.delete(f"a/b/{name}.webp")
            storage.put(f"a/b/{name}.webp", source, content_type="image/webp")

        _in_threads([partial(come_and_go, name) for name in "1234"])
        assert sorted(storage.keys("a/b/")) == [f"a/b/{name}.webp" for name in "1234"]

    def test_the_url_ends_with_the_key(self, storage: Storage) -> None:
        assert storage.url(KEY).partition("?")[0].endswith(f"/{KEY}")

    def test_tells_its_room(self, storage: Storage) -> None:
        room = storage.free_bytes()
        assert room is None or room >= 0


def _file(folder: Path, content: bytes) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.source"
    path.write_bytes(content)
    return path


def _content(storage: Storage, key: str) -> bytes:
    with storage.open(key) as opened:
        return opened.read()


@contextmanager
def _refused(error: type[ImageProcessorError], what: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"{what!r} was not refused with {error.__name__}")


def _in_threads(works: list[Callable[[], None]]) -> None:
    """Run all at once; the first failure of any is raised here."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        try:
            start.wait()
            work()
        except BaseException as failure:  # noqa: BLE001 (it is raised again, in the test's own thread)
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
