"""What the storage in memory does beside the contract."""

import pytest

from image_processor.errors import InvalidKeyError, StorageFullError
from image_processor.storage.memory import MemoryStorage


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"0123456789")
    return path


def put(storage, key, source):
    return storage.put(key, source, content_type="image/webp")


def test_runs_full_as_a_disk_does(source):
    storage = MemoryStorage(capacity_bytes=25)
    put(storage, "a", source)
    put(storage, "b", source)
    assert storage.free_bytes() == 5
    with pytest.raises(StorageFullError):
        put(storage, "c", source)
    put(storage, "b", source)
    assert sorted(storage.keys("")) == ["a", "b"]
    storage.delete("a")
    put(storage, "c", source)


def test_has_no_bound_by_default():
    assert MemoryStorage().free_bytes() is None


def test_refuses_a_key_that_runs_through_an_object_as_a_disk_does(source):
    storage = MemoryStorage()
    put(storage, "a/b", source)
    for key in ("a/b/c", "a"):
        with pytest.raises(InvalidKeyError):
            put(storage, key, source)
    assert list(storage.keys("")) == ["a/b"]


def test_urls_begin_with_the_base():
    assert (
        MemoryStorage(base_url="https://cdn.example.org/x/").url("a/b.webp")
        == "https://cdn.example.org/x/a/b.webp"
    )
