"""Many jobs at once over HTTP, before there is a worker: all complete, the most urgent ones first."""

import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fault_proxy import FaultProxy, Mode
from flood import (
    LoneApi,
    Request,
    claimed_priorities,
    completed,
    hints_per_job,
    overtaken,
    quantiles,
    wait_until_drained,
)
from image_processor.jobs import Database
from image_processor.testing import sample_images
from running_service import IS_SOAK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONNECTIONS = 32
SLOTS = 2
PRIORITIES = ("high", "normal", "low")
GATED_WORKER = Path(__file__).parents[1] / "integration" / "gated_worker.py"
DRAIN_SECONDS = 300
ANSWER_SECONDS = 0.5
"""Within which a job is accepted while the broker is down."""
KINDS = [("redis", 1000 if IS_SOAK else 300, SLOTS - 1), ("embedded", 200, 0)]
"""The queue, how many jobs, and how many may be overtaken: one of each slot that has heard of it already."""


@pytest.fixture
def environment(tmp_path, redis_url, queue_namespace) -> dict[str, str]:
    return {
        "FILE_ROOTS": str(tmp_path / "inputs"),
        "REDIS_URL": redis_url,
        "QUEUE_NAMESPACE": queue_namespace,
    }


def requests(folder: Path, count: int) -> list[Request]:
    """All different, in three priorities, mixed; every fifth is an upload."""
    picture = sample_images.photo(320, 240)
    file = folder / "inputs" / "picture.jpg"
    file.parent.mkdir()
    file.write_bytes(picture)
    priorities = itertools.islice(itertools.cycle(PRIORITIES), count)
    made = [
        Request.upload(commented(picture, number), bucket="load", priority=priority)
        if number % 5 == 0
        else Request.job(
            input=file.as_uri(), operations=[{"op": "resize", "width": 10 + number}], priority=priority
        )
        for number, priority in enumerate(priorities)
    ]
    random.Random(4).shuffle(made)
    return made


def commented(jpeg: bytes, number: int) -> bytes:
    """The same picture in other bytes."""
    return jpeg[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4) + jpeg[2:]


@contextmanager
def working(api: LoneApi):
    """A worker beside the API, whose engine writes small files at once."""
    gate = api.folder / "gate"
    gate.touch()
    with (api.folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, str(GATED_WORKER), str(gate)],
            cwd=api.folder,
            env=api.variables() | {"WORKERS": str(SLOTS), "PYTHONPATH": ":".join(filter(None, sys.path))},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(60)


@pytest.mark.parametrize(("backend", "count", "may_be_overtaken"), KINDS)
def test_all_complete_and_the_most_urgent_first(environment, tmp_path, backend, count, may_be_overtaken):
    asked = requests(tmp_path, count)
    with LoneApi(tmp_path, environment | {"QUEUE_BACKEND": backend}) as api:
        started = time.monotonic()
        answers = api.flood(asked, connections=CONNECTIONS)
        submitted = time.monotonic()
        assert Counter(answer.status for answer in answers) == {202: count}
        assert len({answer.body["job_id"] for answer in answers}) == count
        with closing(Database.open(tmp_path / "data" / "processor.db")) as database:
            with working(api):
                wait_until_drained(database, DRAIN_SECONDS)
            drained = time.monotonic()
            assert completed(database) == count
            assert hints_per_job(database) <= 1.1
            claims = claimed_priorities(database)
    assert len(claims) == count
    assert overtaken(claims) <= may_be_overtaken
    logs = (tmp_path / "worker.log").read_text() + api.log.read_text()
    # A busy machine may be late for the broker; the dispatcher hints again.
    assert [line for line in logs.splitlines() if "failed" in line and "publish.failed" not in line] == []
    median, p99, most = quantiles(answers)
    print(
        f"\n{backend}: submit {median:.0f} ms, p99 {p99:.0f} ms, most {most:.0f} ms, "
        f"{count / (submitted - started):.0f}/s; drained {count / (drained - submitted):.0f}/s"
    )


@pytest.mark.alone
@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.BLACK_HOLE])
def test_a_broker_that_is_down_keeps_nobody_waiting(environment, tmp_path, valkey, mode):
    asked = requests(tmp_path, 40)
    with FaultProxy(valkey.port, mode=mode) as proxy:
        broken = {"QUEUE_BACKEND": "redis", "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        with LoneApi(tmp_path, environment | broken) as api:
            answers = api.flood(asked, connections=2)
    assert Counter(answer.status for answer in answers) == {202: len(asked)}
    times = sorted(answer.seconds for answer in answers)
    assert times[-2] < ANSWER_SECONDS, "one may be late for reasons of the machine's own"
