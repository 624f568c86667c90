"""What a worker leaves behind that was killed at work: the service waits for it, and goes on."""

import signal

import psutil
import pytest

from failures.faults.sick_codec import WAITS
from failures.test_codecs import FAULTS, Clinic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def ward(tmp_path):
    """A clinic of one worker, which may die."""
    own = {"PYTHONPATH": str(FAULTS), "SICK_CODECS": str(tmp_path / "gate"), "HANGING_WIDTHS": "0"}
    ward = Clinic(tmp_path, own, ("--dev", "--port", "0", "--workers", "1"))
    ward.gate.touch()
    ward.start()
    yield ward
    ward.stop()


def test_neither_a_killed_worker_nor_its_codec_remains_as_a_zombie(ward):
    with ward.closed_gate():
        ward.wait_until(ward.admit(WAITS), "processing")
        ward.wait_for(ward.codecs, "the codec to be at work")
        (worker,) = ward.processes("worker")
        dead = [process.pid for process in (worker, *ward.codecs())]  # zombies have their number still
        worker.send_signal(signal.SIGKILL)
        ward.wait_for(lambda: not any(map(psutil.pid_exists, dead)), "the dead to be gone")
        ward.wait_for(lambda: ward.processes("worker"), "another worker")
    assert not [child for child in ward.children() if is_zombie(child)]


def is_zombie(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
