"""Codecs that die, hang and swallow memory, in a whole service: who is charged, when, and who goes on."""

import fcntl
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from failures.faults.sick_codec import CRASHES, HANGS, IS_DEAF, IS_GREEDY, WAITS
from image_processor.testing import sample_images
from running_service import Service, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FAULTS = Path(__file__).with_name("faults")
HANG_SECONDS = 2.0
SLOTS = 2


class Clinic(Service):
    """A service whose pictures are ill by their width."""

    @property
    def gate(self):
        return self.folder / "gate"

    @contextmanager
    def closed_gate(self):
        with self.gate.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def admit(self, width, height=300):
        with self.client() as client:
            answer = upload(client, sample_images.photo(width, height))
            assert answer.status_code == 202, answer.text
            return answer.json()["job_id"]

    def job(self, job_id):
        columns = "status, reason, attempt_count, crash_count, timeout_count"
        return self.rows(f"select {columns} from processing_jobs where job_id = ?", job_id)[0]

    def error(self, job_id):
        return self.rows("select last_error from processing_jobs where job_id = ?", job_id)[0][0]

    def wait_until(self, job_id, *statuses):
        self.wait_for(lambda: self.job(job_id)[0] in statuses, f"{job_id} to be {statuses}")

    def next_attempt(self, job_id):
        """The time until then has passed."""
        self.execute("update processing_jobs set run_at = 0 where job_id = ? and status = 'retrying'", job_id)

    def trail(self, job_id):
        sql = "select event_type, created_at from image_upload_events where job_id = ? order by rowid"
        return [(event, datetime.fromisoformat(at)) for event, at in self.rows(sql, job_id)]

    def assert_serves(self):
        """A healthy picture goes through, and whoever was started first is still there."""
        with self.client() as client:
            assert client.get("/api/v1/health").status_code == 200
            assert wait_for_result(client, self.admit(320)).status_code == 200
        assert "process.died" not in "".join(self.log)

    def codecs(self):
        return [child for child in self.children() if "sick_codec.py" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic")
    own = {
        "PYTHONPATH": str(FAULTS),
        "SICK_CODECS": str(folder / "gate"),
        "HANGING_WIDTHS": f"{HANGS},{IS_DEAF}",
        "HANG_SECONDS": str(HANG_SECONDS),
        "CODEC_MEMORY_MB": "512",
        "JOIN_DUPLICATES": "false",
        "LOG_FORMAT": "json",
    }
    clinic = Clinic(folder, own, ("--dev", "--port", "0", "--workers", str(SLOTS)))
    clinic.gate.touch()
    clinic.start()
    yield clinic
    clinic.stop()


def test_the_third_segfault_is_poison_and_the_neighbour_is_not_charged(clinic):
    with clinic.closed_gate():
        neighbour = clinic.admit(WAITS)
        poison = clinic.admit(CRASHES)
        for crash in (1, 2):
            clinic.wait_for(lambda crash=crash: clinic.job(poison)[3] == crash, "the crash to be charged")
            assert "SIGSEGV" in clinic.error(poison)
            clinic.next_attempt(poison)
        clinic.wait_until(poison, "failed")
        assert clinic.job(poison) == ("failed", "poison", 3, 3, 0)
        clinic.wait_until(neighbour, "processing")
    clinic.wait_until(neighbour, "completed", "failed")
    assert clinic.job(neighbour) == ("completed", None, 1, 0, 0)
    begun_at = dict(clinic.trail(poison)[:2])["processing_started"]
    charged_at = dict(clinic.trail(poison)[:3])["retrying"]
    assert (charged_at - begun_at).total_seconds() < 10, "its lease of 30 s was not waited for"
    clinic.assert_serves()


def test_hanging_codecs_are_killed_at_the_deadline_and_their_slots_are_free_at_once(clinic):
    """One is in libvips, one swallows what every signal raises: nothing softer than a kill reaches them."""
    hanging = [clinic.admit(width, 310) for width in (HANGS, IS_DEAF)]
    for job_id in hanging:
        clinic.wait_until(job_id, "processing")
    assert len(hanging) == SLOTS
    before = clinic.codecs()
    for job_id in hanging:
        clinic.wait_until(job_id, "retrying")
        assert clinic.job(job_id) == ("retrying", None, 1, 0, 1)
    clinic.assert_serves()
    assert not [codec for codec in before if codec.is_running()]
    for job_id in hanging:
        clinic.next_attempt(job_id)
    for job_id in hanging:
        clinic.wait_until(job_id, "failed")
        assert clinic.job(job_id) == ("failed", "exhausted", 2, 0, 2)
        times = [
            at for event, at in clinic.trail(job_id) if event in {"processing_started", "retrying", "failed"}
        ]
        took = [(times[at + 1] - times[at]).total_seconds() for at in (0, 2)]
        print(f"\nkilled after {took} s of {HANG_SECONDS}")
        assert min(took) > HANG_SECONDS - 0.1
        assert min(took) < HANG_SECONDS + 1
    clinic.assert_serves()


def test_a_codec_that_runs_out_of_memory_fails_its_job_for_good_and_nobody_else_ends(clinic):
    before = {name: clinic.processes(name)[0].pid for name in ("api", "worker")}
    greedy = clinic.admit(IS_GREEDY)
    clinic.wait_until(greedy, "failed", "retrying")
    assert clinic.job(greedy) == ("failed", "rejected", 1, 0, 0)
    assert "more than the 512 MiB of memory" in clinic.error(greedy)
    clinic.assert_serves()
    assert before == {name: clinic.processes(name)[0].pid for name in ("api", "worker")}
    with clinic.client() as client:
        answer = client.get(f"/api/v1/images/jobs/{greedy}/result")
    assert (answer.status_code, answer.json()["error"]["details"]["code"]) == (422, "image_too_complex")


def test_no_process_but_the_codec_has_libvips_in_its_memory(clinic):
    """It does not survive a fork. The worker is the supervisor of codecs, and the sweeper too."""
    clinic.assert_serves()
    processes = {"service": [clinic.process.pid]}
    for name in ("api", "worker"):
        processes[name] = [process.pid for process in clinic.processes(name)]
        assert processes[name]
    for pids in processes.values():
        assert not [pid for pid in pids if has_libvips(pid)]
    assert all(has_libvips(codec.pid) for codec in clinic.codecs())
    assert clinic.codecs()


def has_libvips(pid):
    return "vips" in Path(f"/proc/{pid}/maps").read_text()
