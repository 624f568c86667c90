"""`kill -9` of the worker, a codec child and the API in mid-work: what was accepted completes, once."""

from collections.abc import Iterator

import httpx
import psutil
import pytest

from running_service import IS_SOAK, Service, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 20 if IS_SOAK else 3
UPLOADS_A_ROUND = 2


def _rounds(service: Service, victim: str, picture: bytes) -> list[str]:
    """The jobs accepted while one process of a kind is killed in each round."""
    accepted = []
    for _ in range(KILLS):
        with service.client() as client:
            jobs = [
                upload(client, picture).raise_for_status().json()["job_id"] for _ in range(UPLOADS_A_ROUND)
            ]
            service.wait_for(lambda jobs=jobs: _is_processing(service, jobs), "a job to be processed")
            _kill(service, victim)
            for job_id in jobs:
                wait_for_result(client, job_id).raise_for_status()
        accepted += jobs
    return accepted


def _is_processing(service: Service, jobs: list[str]) -> bool:
    processing = service.rows("select job_id from processing_jobs where status = 'processing'")
    return any((job_id,) in processing for job_id in jobs)


def _kill(service: Service, victim: str) -> None:
    service.wait_for(lambda: bool(service.processes(victim)), f"a process {victim}")
    for process in service.processes(victim)[:1]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _assert_each_completed_once(service: Service, accepted: list[str]) -> None:
    statuses = dict(service.rows("select job_id, status from processing_jobs"))
    assert {statuses[job_id] for job_id in accepted} == {"completed"}
    completions = service.rows(
        "select job_id, count(*) from image_upload_events where event_type = 'completed' group by job_id"
    )
    assert {count for _, count in completions} == {1}
    assert {job_id for job_id, _ in completions} >= set(accepted)


@pytest.mark.parametrize("victim", ["worker", "codec"])
def test_a_killed_worker_or_decoder_loses_nothing(start_service, heavy_photo, victim):
    service = start_service()
    accepted = _rounds(service, victim, heavy_photo)
    assert len(accepted) == KILLS * UPLOADS_A_ROUND
    _assert_each_completed_once(service, accepted)
    tried_again = service.rows("select count(*) from image_upload_events where event_type = 'retrying'")[0][0]
    service.wait_for(lambda: not service.staged(), "an empty stage")
    assert tried_again >= KILLS // 2, "the kills hit nothing: this test proves nothing"


def test_a_killed_api_loses_nothing_that_it_accepted(start_service, heavy_photo):
    service = start_service()
    accepted: list[str] = []
    broken = 0
    for _ in range(KILLS):
        with service.client() as client:
            accepted += [upload(client, heavy_photo).raise_for_status().json()["job_id"]]
        broken += _killed_during_an_upload(service, heavy_photo)
    assert broken == KILLS
    with service.client() as client:
        for job_id in accepted:
            wait_for_result(client, job_id).raise_for_status()
    assert service.rows("select status, count(*) from processing_jobs group by 1") == [("completed", KILLS)]
    _assert_each_completed_once(service, accepted)
    service.wait_for(lambda: len(service.staged()) <= KILLS, "the originals of completed jobs to be removed")
    assert len(service.staged()) == KILLS, "the broken uploads: orphans, which the sweeper removes in time"


def _killed_during_an_upload(service: Service, picture: bytes) -> bool:
    """Kill the API when it has taken in half of an upload; whether the client saw its upload break."""
    known = set(service.staged())

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n\r\n'
        yield picture[: len(picture) // 2]
        service.wait_for(lambda: bool(set(service.staged()) - known), "the upload to be staged")
        _kill(service, "api")
        yield picture[len(picture) // 2 :] + b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with service.client() as client:
        try:
            client.post("/api/v1/images/upload", content=body(), headers=headers)
        except httpx.TransportError:
            return True
    return False
