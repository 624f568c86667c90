"""Uploads in a row, two hundred in `make soak`: no file stays in the stage, and no process grows."""

import psutil
import pytest

from image_processor.testing import sample_images
from running_service import IS_SOAK, Service, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UPLOADS = 200 if IS_SOAK else 60
SETTLED_AFTER = 50 if IS_SOAK else 20
MAX_GROWTH_MB = 25
"""What an allocator may keep without that being a leak; a leak of one small picture per upload is 58 MB."""


def _resident_mb(service: Service) -> dict[str, float]:
    """The sum over the processes of each kind; a codec child's is that of its own, between two jobs."""
    return {name: sum(map(_rss, service.processes(name))) / 1e6 for name in ("api", "worker", "codec")}


def _rss(process: psutil.Process) -> int:
    return process.memory_info().rss


def test_many_uploads_leave_nothing_and_grow_nothing(start_service, heavy_photo):
    service = start_service(arguments=("--dev", "--port", "0", "--workers", "2"))
    pictures = [sample_images.photo(width=800, height=600), *([heavy_photo] if IS_SOAK else [])]
    figures = {}
    with service.client() as client:
        jobs = []
        for number in range(1, UPLOADS + 1):
            jobs.append(upload(client, pictures[number % len(pictures)]).raise_for_status().json()["job_id"])
            if number % SETTLED_AFTER == 0:
                for job_id in jobs:
                    wait_for_result(client, job_id).raise_for_status()
                jobs.clear()
                figures[number] = _resident_mb(service)
                print(number, {name: round(size) for name, size in figures[number].items()})
    service.wait_for(lambda: not service.staged(), "an empty stage")
    assert list((service.folder / "data" / "scratch").iterdir()) == []
    assert list((service.folder / "data" / "storage" / ".incoming").iterdir()) == []
    assert service.rows("select status, count(*) from processing_jobs group by 1") == [("completed", UPLOADS)]
    growth = {name: figures[UPLOADS][name] - figures[SETTLED_AFTER][name] for name in figures[UPLOADS]}
    assert max(growth.values()) < MAX_GROWTH_MB, growth
