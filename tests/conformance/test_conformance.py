"""One suite for every combination of database and transport: what was accepted ends once, whatever dies."""

import json
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from conformance.deployment import BEGINNING, LEASE_SECONDS, new_picture
from fault_proxy import Mode
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.values import Priority
from running_service import upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    # asyncio's server drops, unclosed, a connection that it accepts in the moment in which it is closed.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <(socket|function _Sel):pytest.PytestUnraisableExceptionWarning"
    ),
]

HINTS = 50
SUBMIT_SECONDS = 0.5
"""What a submit may take while the broker is down: a promise."""
COOL_OFF_SECONDS = 1.2
REDISPATCH_SECONDS = 2 + 2 * 1.3
"""After the broker forgot everything: the promised 2 s, and two turns of a sweeper."""
RERUN = [*BEGINNING, "retrying", "processing_started", "completed"]


def test_uploads_and_jobs_complete(deployment):
    source = deployment.roots / "source.jpg"
    source.write_bytes(new_picture())
    destination = deployment.roots / "thumb.webp"
    asked = {
        "input": source.as_uri(),
        "output": destination.as_uri(),
        "operations": [{"op": "resize", "width": 64}],
    }
    answer = deployment.client.post("/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    uploaded = [deployment.submit(priority=priority) for priority in ("low", "normal", "high")]
    jobs = [*uploaded, answer.json()["job_id"]]
    deployment.wait_for_status("completed", *jobs)
    assert {tuple(deployment.events(job_id)) for job_id in jobs} == {(*BEGINNING, "completed")}
    assert {deployment.job(job_id).attempt_count for job_id in jobs} == {1}
    assert destination.read_bytes()[8:12] == b"WEBP"
    deployment.assert_whole(*uploaded)


def test_what_a_killed_worker_left_another_one_finishes(deployment):
    deployment.wait_for_workers()
    with deployment.closed_gate():
        job_id = deployment.submit()
        deployment.wait_for_status("processing", job_id)
        deployment.worker_of(job_id).process.kill()
        deployment.hurry(job_id)
    deployment.wait_for_status("completed", job_id)
    assert deployment.events(job_id) == RERUN
    assert deployment.job(job_id) == ("completed", None, 2, 1, 2)
    deployment.assert_whole(job_id)


def test_a_zombie_is_refused(deployment):
    deployment.wait_for_workers()
    with deployment.closed_gate():
        job_id = deployment.submit()
        deployment.wait_for_status("processing", job_id)
        zombie = deployment.worker_of(job_id)
        deployment.wait_for(zombie.codecs, "its codec")
        (codec,) = zombie.codecs()
        deployment.freeze(zombie)
        deployment.hurry(job_id)
    deployment.wait_for_status("completed", job_id)
    # By the time at which it learns that the job is not its own any more, it has a result in its hands.
    codec.resume()
    deployment.wait_for(lambda: codec.status() == psutil.STATUS_SLEEPING, "its codec to answer")
    zombie.process.resume()
    deployment.wait_for(lambda: deployment.told("job.lost", job_id=job_id), "the zombie to give up")
    assert deployment.job(job_id) == ("completed", None, 2, 1, 2)
    assert deployment.events(job_id) == RERUN
    deployment.assert_whole(job_id)


def test_a_stopped_worker_hands_its_job_on_and_refunds_the_attempt(deployment):
    deployment.wait_for_workers()
    with deployment.closed_gate():
        job_id = deployment.submit()
        deployment.wait_for_status("processing", job_id)
        worker = deployment.worker_of(job_id)
        worker.process.terminate()
        deployment.wait_for(
            lambda: deployment.told("worker.stopping", worker_id=worker.worker_id), "it to hear"
        )
        worker.process.terminate()
        deployment.wait_for(lambda: "released" in deployment.events(job_id), "the job to go back")
    deployment.wait_for_status("completed", job_id)
    assert deployment.events(job_id) == [*BEGINNING, "released", "processing_started", "completed"]
    assert deployment.job(job_id) == ("completed", None, 1, 0, 2)
    deployment.assert_whole(job_id)


def test_duplicate_hints_make_one_execution(brokered):
    with brokered.own_transport() as transport, brokered.closed_gate():
        job_id = brokered.submit()
        for _ in range(HINTS):
            brokered.wait_for(lambda: transport.publish(job_id, Priority.NORMAL), "the broker to take a hint")
    brokered.wait_for_status("completed", job_id)
    with brokered.own_transport() as transport:
        brokered.wait_for(lambda: transport.depth() == 0, "the hints to be followed")
    assert brokered.events(job_id) == [*BEGINNING, "completed"]
    assert brokered.job(job_id) == ("completed", None, 1, 0, 1)
    brokered.assert_whole(job_id)


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BLACK_HOLE])
def test_a_submit_does_not_wait_for_a_broker_that_is_down(brokered, mode):
    brokered.wait_for_workers()
    brokered.proxy.mode = mode
    took, jobs = [], []
    while min(took, default=SUBMIT_SECONDS) >= SUBMIT_SECONDS and len(took) < 5:
        time.sleep(COOL_OFF_SECONDS if took else 0)  # until it asks the broker again
        started = time.monotonic()
        jobs.append(brokered.submit())
        took.append(time.monotonic() - started)
    assert min(took) < SUBMIT_SECONDS, took
    brokered.proxy.mode = Mode.PASS
    if brokered.transport == "celery":
        # Its consumer waits for ever on a connection that has fallen silent; the end of that wakes it.
        brokered.proxy.reset_connections()
    started = time.monotonic()
    brokered.wait_for_status("completed", *jobs)
    after = time.monotonic() - started
    print(f"\n{brokered.name}: {mode}: submitted in {min(took):.3f} s, completed {after:.1f} s after its end")
    for job_id in jobs:
        assert brokered.job(job_id) == ("completed", None, 1, 0, 1)
    brokered.assert_whole(*jobs)


def test_what_a_broker_forgets_is_dispatched_again(brokered):
    with brokered.closed_gate():
        running = brokered.occupy()
        assert brokered.broker.command("SAVE").startswith(b"+OK")
        waiting = [brokered.submit() for _ in range(3)]
        times = [
            _redispatched_after(brokered, waiting, forget)
            for forget in (brokered.broker.flush, brokered.broker.restart)
        ]
    (brokered.broker.folder / "dump.rdb").unlink()
    print(
        f"\n{brokered.name}: dispatched anew {times[0]:.2f} s after a flush, {times[1]:.2f} s after a restart"
    )
    brokered.wait_for_status("completed", *running, *waiting)
    for job_id in (*running, *waiting):
        assert brokered.job(job_id) == ("completed", None, 1, 0, 1)
    assert max(times) < REDISPATCH_SECONDS


def _redispatched_after(deployment, jobs, forget):
    """The seconds until each of the jobs has had one hint more."""

    def count():
        return min(deployment.value("dispatch_count", job_id) for job_id in jobs)

    before = count()
    forget()
    started = time.monotonic()
    deployment.wait_for(lambda: count() > before, "new hints")
    with deployment.own_transport() as transport:
        deployment.wait_for(lambda: transport.depth() >= len(jobs), "them at the broker")
    return time.monotonic() - started


def test_of_many_claims_one_wins_and_a_waiting_job_is_cancelled_at_once(deployment):
    with deployment.closed_gate():
        running = deployment.occupy()
        waiting, unwanted = deployment.submit(), deployment.submit()
        answer = deployment.client.post(f"/jobs/{unwanted}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "failed")
        with deployment.own_database() as database, ThreadPoolExecutor(HINTS) as threads:
            jobs = JobRepository(database)

            def claim(number):
                return jobs.claim(f"stranger-{number}", 60, waiting)

            (claimed,) = filter(None, threads.map(claim, range(HINTS)))
            assert deployment.job(waiting).claim_seq == 1
            assert jobs.release(claimed) is not None
    deployment.wait_for_status("completed", *running, waiting)
    assert deployment.job(waiting) == ("completed", None, 1, 0, 2)
    assert deployment.job(unwanted) == ("failed", "cancelled", 0, 0, 0)
    assert deployment.events(unwanted) == ["upload_initiated", "failed"]


def test_a_running_job_is_cancelled(deployment):
    with deployment.closed_gate():
        job_id = deployment.submit()
        deployment.wait_for_status("processing", job_id)
        answer = deployment.client.post(f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "processing")
        deployment.wait_for_status("failed", job_id)
    assert deployment.events(job_id) == [*BEGINNING, "cancel_requested", "failed"]
    assert deployment.job(job_id).reason == "cancelled"
    assert deployment.client.post(f"/jobs/{job_id}/retry").status_code == 409
    staged = deployment.value("staging_path", job_id)
    deployment.wait_for(lambda: staged not in deployment.service.staged(), "the original to go")


def test_a_job_that_kills_its_codec_is_poison_and_its_neighbour_is_not_charged(deployment):
    with deployment.closed_gate():
        jobs = deployment.occupy()
        worker = deployment.workers()[0]
        doomed, *spared = sorted(worker.codecs(), key=lambda codec: codec.pid)
        took = [_crash(deployment, jobs, doomed, signal.SIGSEGV, 1)]
        victim = next(job_id for job_id in jobs if deployment.job(job_id).crash_count)
        assert "SIGSEGV" in deployment.value("last_error", victim)
        for number, crash in ((signal.SIGKILL, 2), (signal.SIGABRT, 3)):
            deployment.hurry(victim)
            deployment.wait_for(lambda: worker.codecs() > set(spared), "another codec")
            (doomed,) = worker.codecs() - set(spared)
            took.append(_crash(deployment, jobs, doomed, number, crash))
        assert deployment.job(victim) == ("failed", "poison", 3, 3, 3)
        others = [job_id for job_id in jobs if job_id != victim]
        assert {deployment.job(job_id) for job_id in others} == {("processing", None, 1, 0, 1)}
    print(f"\n{deployment.name}: crashes noticed after {took} s")
    assert min(took) < LEASE_SECONDS / 2
    deployment.wait_for_status("completed", *others)
    assert deployment.client.post(f"/jobs/{victim}/retry").status_code == 202
    deployment.wait_for_status("completed", victim)
    assert deployment.events(victim)[-4:] == ["failed", "replayed", "processing_started", "completed"]
    deployment.assert_whole(*jobs)


def _crash(deployment, jobs, codec, number, crash):
    codec.send_signal(number)
    started = time.monotonic()
    deployment.wait_for(
        lambda: sum(deployment.job(job_id).crash_count for job_id in jobs) == crash, "the crash to be charged"
    )
    return round(time.monotonic() - started, 3)


def test_jobs_of_a_later_version_are_left_to_its_workers(deployment):
    changes = {"kind": ("film", "image"), "pipeline_version": (2, 1)}
    with deployment.closed_gate():
        running = deployment.occupy()
        later = {column: deployment.submit() for column in changes}
        for column, (theirs, _) in changes.items():
            deployment.change(later[column], column, theirs)
    for column, (_, ours) in changes.items():
        job_id = later[column]
        deployment.wait_for_status("retrying", job_id)
        assert deployment.job(job_id) == ("retrying", None, 0, 0, 1)
        deployment.change(job_id, column, ours)
        deployment.hurry(job_id)
    deployment.wait_for_status("completed", *running, *later.values())
    assert {tuple(deployment.events(job_id)) for job_id in later.values()} == {tuple(RERUN)}


def test_a_killed_api_makes_one_job_of_a_key_or_none(deployment):
    picture, key = new_picture(), str(uuid.uuid4())
    jobs = deployment.service.rows("select count(*) from processing_jobs")[0][0]
    for fault, made in (("before-commit", 0), ("after-commit", 1)):
        deployment.fail_next(fault)
        with pytest.raises(httpx.TransportError):
            _upload_with(deployment, key, picture)
        assert deployment.service.rows("select count(*) from processing_jobs") == [(jobs + made,)]
    ((job_id,),) = deployment.service.rows(
        "select job_id from idempotency_keys where idempotency_key = ?", key
    )
    # It died before it could hint; let the time have passed after which a hint counts as lost.
    deployment.change(job_id, "dispatched_at", 0)
    answer = _upload_with(deployment, key, picture)
    assert (answer.status_code, answer.json()["job_id"]) == (202, job_id)
    assert answer.headers["Idempotent-Replayed"] == "true"
    deployment.wait_for_status("completed", job_id)
    assert deployment.events(job_id) == [*BEGINNING, "completed"]
    assert deployment.service.rows("select count(*) from processing_jobs") == [(jobs + 1,)]
    deployment.assert_whole(job_id)


def _upload_with(deployment, key, picture):
    with deployment.service.client() as client:
        client.headers["Idempotency-Key"] = key
        return upload(client, picture)


def test_at_the_end_nothing_is_lost_and_nothing_is_left(deployment):
    statuses = {status for (status,) in deployment.service.rows("select status from processing_jobs")}
    assert statuses <= {"completed", "failed"}
    paths = deployment.service.rows(
        "select processed_paths from processing_jobs where status = 'completed' and output_uri is null"
    )
    named = {key for (keys,) in paths for key in json.loads(keys).values()}
    storage = deployment.folder / "data" / "storage"
    assert {str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file()} == named
    originals = deployment.service.rows("select staging_path from processing_jobs where status = 'completed'")
    deployment.wait_for(
        lambda: not {name for (name,) in originals} & set(deployment.service.staged()), "the originals to go"
    )
