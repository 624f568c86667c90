"""CacheBreaker: opens after failures in a row, for all processes; lets one probe through after its rest."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files.storage import InMemoryStorage

from image_processor.contrib.django.breaker import CacheBreaker
from image_processor.contrib.django.production import Place, make, new_stem
from image_processor.contrib.django.rendering import preset_named
from image_processor.errors import StorageError, UnavailableError


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "files"])
def cache(request, tmp_path) -> BaseCache:
    """One whose `incr` is one step, and one whose `incr` is Django's own: read, then write."""
    return caches["default"] if request.param == "memory" else FileBasedCache(str(tmp_path / "cache"), {})


@pytest.fixture
def breaker(cache, clock) -> CacheBreaker:
    return CacheBreaker(cache, failures=3, rest_seconds=60, now=clock)


def is_open(breaker: CacheBreaker) -> bool:
    try:
        breaker.check()
    except UnavailableError:
        return True
    return False


def opened(breaker: CacheBreaker) -> CacheBreaker:
    for _ in range(3):
        breaker.failed()
    return breaker


def test_it_opens_with_the_third_failure_in_a_row(breaker):
    breaker.failed()
    breaker.failed()
    assert not is_open(breaker)

    breaker.failed()

    assert is_open(breaker)


def test_a_success_ends_the_row(breaker):
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()

    assert not is_open(breaker)


def test_who_is_turned_away_is_told_how_long(breaker, clock):
    opened(breaker)
    clock.now += 20

    with pytest.raises(UnavailableError) as raised:
        breaker.check()

    assert raised.value.details["retry_after"] == 40


def test_after_the_rest_one_probes_and_the_others_wait(breaker, clock):
    opened(breaker)
    clock.now += 60

    assert [is_open(breaker) for _ in range(4)] == [False, True, True, True]


def test_of_many_threads_one_probes(cache, clock):
    opened(CacheBreaker(cache, failures=3, rest_seconds=60, now=clock))
    clock.now += 60
    together = threading.Barrier(8)

    def probes(_) -> bool:
        mine = CacheBreaker(cache, failures=3, rest_seconds=60, now=clock)
        together.wait()
        return not is_open(mine)

    with ThreadPoolExecutor(8) as threads:
        passed = sum(threads.map(probes, range(8)))

    # Django's cache in files may let two through: its `add` looks, then writes.
    assert passed == 1 or (isinstance(cache, FileBasedCache) and passed >= 1)


def test_a_probe_that_holds_closes_it(breaker, clock):
    opened(breaker)
    clock.now += 60
    breaker.check()
    breaker.succeeded()

    assert not any(is_open(breaker) for _ in range(3))
    breaker.failed()
    breaker.failed()
    assert not is_open(breaker)


def test_a_probe_that_fails_opens_it_for_another_rest(breaker, clock):
    opened(breaker)
    clock.now += 60
    breaker.check()
    breaker.failed()

    clock.now += 59
    assert is_open(breaker)
    clock.now += 1
    assert not is_open(breaker)


def test_a_probe_that_says_nothing_is_given_back(breaker, clock):
    opened(breaker)
    clock.now += 60
    breaker.check()
    breaker.give_back()

    assert not is_open(breaker)
    assert is_open(breaker)


def test_a_cache_that_lost_its_content_closes_it(breaker, cache):
    opened(breaker)
    cache.clear()

    assert not is_open(breaker)


ANOTHER_PROCESS = """
import sys
from django.core.cache.backends.filebased import FileBasedCache
from image_processor.contrib.django.breaker import CacheBreaker
for _ in range(3):
    CacheBreaker(FileBasedCache(sys.argv[1], {}), failures=3, rest_seconds=60).failed()
"""


def test_what_one_process_opens_is_open_for_another(tmp_path):
    subprocess.run([sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path)], check=True, timeout=60)

    assert is_open(CacheBreaker(FileBasedCache(str(tmp_path), {}), failures=3, rest_seconds=60))


class DownCache(BaseCache):
    """As a Redis that is not there."""

    def __init__(self) -> None:
        super().__init__({})

    def _fail(self, *_, **__):
        raise ConnectionError("Connection refused.")

    get = get_many = set = add = delete = delete_many = incr = _fail


class NoRoomStorage(InMemoryStorage):
    def _save(self, name, content):
        raise OSError(28, "No space left on device")


def test_a_storage_that_fails_opens_it_although_pictures_are_rendered(settings, photo_bytes):
    settings.IMAGE_PROCESSOR = {"RETRY_SECONDS": []}
    place = Place(NoRoomStorage(), new_stem("pictures"))
    for _ in range(3):
        with pytest.raises(StorageError):
            make(photo_bytes, preset_named("avatar"), place, keeps_source=False)

    with pytest.raises(UnavailableError):
        make(photo_bytes, preset_named("avatar"), place, keeps_source=False)


def test_a_cache_that_is_down_counts_as_closed_and_is_told_of(caplog):
    breaker = CacheBreaker(DownCache(), failures=1, rest_seconds=60)

    breaker.failed()
    breaker.check()
    breaker.succeeded()
    breaker.give_back()

    assert len(caplog.records) == 4
    assert "the breaker counts as closed" in caplog.text
