"""How fast the API answers uploads of camera photos: while the workers are idle, and while they are busy."""

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from running_service import Service, upload

UPLOADS = 60


def measure(photos: list[Path]) -> None:
    """Print the quantiles of the time from the first byte sent to the whole answer."""
    contents = [photo.read_bytes() for photo in photos]
    mean_size = statistics.mean(map(len, contents)) / 1e6
    print(f"an upload, photos of {mean_size:.1f} MB on average: milliseconds (median, p90, most)")
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder))
        service.start()
        try:
            with service.client() as client:
                _print("workers idle", _idle(service, client, contents))
                _print("workers busy", _busy(service, client, contents))
        finally:
            service.stop()


def _idle(service: Service, client: httpx.Client, contents: list[bytes]) -> list[float]:
    times = []
    for number in range(UPLOADS // 3):
        times.append(_timed_upload(client, contents[number % len(contents)]))
        service.wait_for(lambda: not _live_jobs(service), "the job to be done")
    return times


def _busy(service: Service, client: httpx.Client, contents: list[bytes]) -> list[float]:
    for content in contents[:6]:
        upload(client, content).raise_for_status()
    service.wait_for(lambda: _jobs(service, "processing") == 2, "both workers to be busy")
    times = [_timed_upload(client, contents[number % len(contents)]) for number in range(UPLOADS)]
    assert _jobs(service, "pending") > 0, "the workers ran out of work"
    return times


def _timed_upload(client: httpx.Client, content: bytes) -> float:
    started = time.perf_counter()
    upload(client, content).raise_for_status()
    return (time.perf_counter() - started) * 1000


def _jobs(service: Service, status: str) -> int:
    return int(service.rows("select count(*) from processing_jobs where status = ?", status)[0][0])


def _live_jobs(service: Service) -> int:
    return _jobs(service, "pending") + _jobs(service, "processing") + _jobs(service, "retrying")


def _print(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p90 = ordered[int(len(ordered) * 0.9)]
    print(f"  {name:40} {statistics.median(ordered):6.1f} {p90:6.1f} {ordered[-1]:6.1f} ({len(times)} times)")
