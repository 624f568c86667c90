"""Stored bytes over HTTP: whole, in part, unchanged or not to be had; over a storage in memory."""

import asyncio
import gc

import httpx
import pytest
from fastapi import FastAPI, Request

from image_processor.api.edge import SafeHeaders
from image_processor.api.errors import add_error_answers
from image_processor.api.files import CHUNK_BYTES, etag, file_answer
from image_processor.storage.base import StoredObject
from image_processor.storage.memory import MemoryStorage

KEY = "a/b/picture.webp"
CONTENT = bytes(range(256)) * 4
CACHE = "public, max-age=60"


class Counted:
    """A file that says whether it was closed."""

    def __init__(self, file, still_open):
        self._file = file
        self._still_open = still_open

    def __enter__(self):
        self._still_open.append(self)
        return self._file.__enter__()

    def __exit__(self, *error):
        self._still_open.remove(self)
        return self._file.__exit__(*error)


class CountingStorage(MemoryStorage):
    """Knows which of its files are open, and can lose one between its `stat` and its `open`."""

    def __init__(self):
        super().__init__()
        self.still_open = []
        self.loses_everything = False

    def stat(self, key):
        found = super().stat(key)
        if self.loses_everything:
            self.delete(key)
        return found

    def open(self, key):
        return Counted(super().open(key), self.still_open)


@pytest.fixture
def storage(tmp_path):
    storage = CountingStorage()
    put(storage, tmp_path, KEY, CONTENT)
    return storage


def put(storage, folder, key, content):
    (folder / "source").write_bytes(content)
    return storage.put(key, folder / "source", content_type="image/webp")


@pytest.fixture
def ask(storage):
    """Ask an API that serves the storage; every file must be closed when it has answered."""
    api = FastAPI()
    add_error_answers(api)
    api.add_middleware(SafeHeaders)

    @api.api_route("/{key:path}", methods=["GET", "HEAD"])
    def serve(request: Request, key: str):
        return file_answer(request, storage, key, cache_control=CACHE)

    async def answer(method, key, headers):
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.request(method, f"/{key}", headers=headers)

    def ask(method="GET", key=KEY, **headers):
        found = asyncio.run(answer(method, key, {n.replace("_", "-"): v for n, v in headers.items()}))
        gc.collect()
        assert storage.still_open == []
        return found

    return ask


def test_the_whole_file(ask, storage):
    answer = ask()
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["etag"] == f'"{storage.stat(KEY).sha256}"'
    assert answer.headers["cache-control"] == CACHE
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_files_of_any_length(ask, storage, tmp_path, length):
    put(storage, tmp_path, KEY, b"x" * length)
    answer = ask()
    assert (answer.status_code, len(answer.content)) == (200, length)
    assert answer.headers["content-length"] == str(length)


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=1000-", slice(1000, 1024)),
        ("bytes=-5", slice(-5, None)),
    ],
)
def test_a_part_of_the_file(ask, wanted, part):
    answer = ask(Range=wanted)
    assert (answer.status_code, answer.content) == (206, CONTENT[part])
    start, end, _ = part.indices(len(CONTENT))
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - start)


def test_a_part_over_several_chunks(ask, storage, tmp_path):
    content = bytes(range(256)) * (CHUNK_BYTES // 64)
    put(storage, tmp_path, KEY, content)
    answer = ask(Range=f"bytes=7-{3 * CHUNK_BYTES + 7}")
    assert answer.content == content[7 : 3 * CHUNK_BYTES + 8]


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=9-3", "nonsense", "items=0-1"])
def test_what_is_no_single_range_gets_the_whole_file(ask, wanted):
    answer = ask(Range=wanted)
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_that_there_is_not(ask, wanted):
    answer = ask(Range=wanted)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */1024"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


def test_an_empty_file_has_no_range(ask, storage, tmp_path):
    put(storage, tmp_path, KEY, b"")
    answer = ask(Range="bytes=0-")
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */0")


def test_unchanged(ask):
    tag = ask().headers["etag"]
    for known in (tag, f"W/{tag}", "*", f'"other", {tag}', f'"other",{tag} ,"x"'):
        answer = ask(If_None_Match=known)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == CACHE


@pytest.mark.parametrize("known", ["", '"other"', "other", '""', ","])
def test_changed(ask, known):
    assert ask(If_None_Match=known).status_code == 200


def test_unchanged_goes_before_a_range(ask):
    assert ask(If_None_Match=ask().headers["etag"], Range="bytes=0-1").status_code == 304


def test_a_part_of_what_is_still_the_same_file(ask):
    tag = ask().headers["etag"]
    assert ask(If_Range=tag, Range="bytes=0-1").status_code == 206
    for other in ('"other"', f"W/{tag}", "Sat, 21 Nov 2026 04:00:00 GMT", ""):
        answer = ask(If_Range=other, Range="bytes=0-1")
        assert (answer.status_code, answer.content) == (200, CONTENT)


def test_head_is_get_without_the_body(ask):
    got, head = ask(), ask("HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == got.headers


def test_head_knows_no_ranges(ask):
    for wanted in ("bytes=0-1", "bytes=5000-"):
        head = ask("HEAD", Range=wanted)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


def test_head_of_what_is_unchanged(ask):
    assert ask("HEAD", If_None_Match="*").status_code == 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_there_is_404(ask, method):
    assert ask(method, "a/b/other.webp").status_code == 404


def test_what_goes_at_the_last_moment_is_404_and_no_broken_answer(ask, storage):
    storage.loses_everything = True
    answer = ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_without_a_hash_the_tag_is_made_of_size_and_time():
    facts = {"key": KEY, "size_bytes": 255, "content_type": "image/webp"}
    tags = {
        etag(StoredObject(**facts, sha256=None, modified_at=1.5)),
        etag(StoredObject(**facts, sha256=None, modified_at=1.500001)),
        etag(StoredObject(**facts | {"size_bytes": 256}, sha256=None, modified_at=1.5)),
    }
    assert len(tags) == 3
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)
