"""Celery and RQ with their default settings on a Redis, as systems whose processes are killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil
from redis import Redis
from rq import Queue, Retry
from rq.job import Job, JobStatus

from bench import rival_tasks
from bench.killing import wait_for

ROOT = Path(__file__).parents[1]
START_SECONDS = 60.0


class _Rival:
    """What the two have in common: a diary of the job, and workers of which one is killed."""

    name = ""
    undisturbed: float | None = None

    def __init__(self, broker: str, killed: str) -> None:
        self.killed = killed
        self._broker = broker
        self._redis = Redis.from_url(broker)
        self._folder = Path(tempfile.mkdtemp(prefix="rival-"))
        self._jobs = 0
        self._workers: list[subprocess.Popen[bytes]] = []

    @property
    def _diary(self) -> Path:
        return self._folder / f"{self._jobs}.txt"

    def submit(self) -> None:
        """Ask for one job."""
        self._jobs += 1
        self._enqueue(str(self._diary))

    def _enqueue(self, diary: str) -> None:
        raise NotImplementedError

    def begun(self) -> Sequence[float]:
        """When each attempt at the job began, in epoch seconds."""
        return [at for word, at, _ in self._entries() if word == "begun"]

    def completed(self) -> float | None:
        """When the job was done, in epoch seconds."""
        return next((at for word, at, _ in self._entries() if word == "completed"), None)

    def _entries(self) -> list[tuple[str, float, int]]:
        if not self._diary.exists():
            return []
        lines = [line.split() for line in self._diary.read_text().splitlines()]
        return [(word, float(at), int(pid)) for word, at, pid in lines]

    def _child(self) -> int:
        """The process that works on the job."""
        return self._entries()[-1][2]

    def is_over(self) -> bool:
        """Whether the system has given the job up."""
        return False

    def _start_worker(self, command: Sequence[str]) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "RIVAL_BROKER": self._broker}
        with (self._folder / "log").open("ab") as log:
            self._workers.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))

    def _kill_worker(self) -> None:
        """The one whose child works on the job."""
        parent = psutil.Process(self._child()).ppid()
        worker = next(worker for worker in self._workers if worker.pid == parent)
        worker.kill()
        worker.wait()

    def stop(self) -> None:
        """End every process that is left."""
        for worker in self._workers:
            if worker.poll() is None:
                for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
                    process.kill()
                worker.wait()
        self._redis.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class CeleryWorker(_Rival):
    """One worker of Celery, its pool as large as it comes; `task` is one of those of `rival_tasks`."""

    def __init__(self, broker: str, *, task: str, kills_child: bool) -> None:
        super().__init__(broker, "pool child" if kills_child else "worker; started again at once")
        self.name = {
            "early": "Celery 5.7, defaults",
            "late": "Celery 5.7, `acks_late`",
            "rejecting": "Celery 5.7, `acks_late` and `reject_on_worker_lost`",
        }[task]
        self._task = task
        self._kills_child = kills_child
        self._app = rival_tasks.app

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._start()
        wait_for(lambda: bool(self._redis.keys("_kombu.binding.celery")), "Celery to listen", START_SECONDS)

    def _start(self) -> None:
        self._start_worker([sys.executable, "-m", "celery", "-A", "bench.rival_tasks", "worker"])

    def _enqueue(self, diary: str) -> None:
        with self._app.connection(self._broker) as connection:
            self._app.send_task(self._task, [diary], connection=connection)

    def kill(self) -> None:
        """The pool child, which Celery itself replaces, or the worker, which takes its children with it."""
        if self._kills_child:
            os.kill(self._child(), signal.SIGKILL)
        else:
            self._kill_worker()
            self._start()

    def state(self) -> str:
        """Where the message is."""
        if self.completed():
            return "completed"
        waiting, taken = self._redis.llen("celery"), self._redis.hlen("unacked")
        return "not acknowledged at the broker" if waiting or taken else "lost: nothing at the broker"


class RQWorkers(_Rival):
    """Two workers of RQ beside each other; `kills` is `horse`, `worker` or `both`."""

    def __init__(self, broker: str, *, kills: str, retries: bool = False) -> None:
        word = {"horse": "work-horse", "worker": "worker", "both": "worker and work-horse"}[kills]
        super().__init__(
            broker, word if kills == "horse" else f"{word}; started again at once, another lives"
        )
        self.name = "RQ 2.12, `Retry(max=3)`" if retries else "RQ 2.12, defaults"
        self._kills = kills
        self._retry = Retry(max=3) if retries else None
        self._job: Job | None = None

    def start(self) -> None:
        """Start both, and wait until they listen."""
        self._start()
        self._start()
        wait_for(lambda: self._redis.scard("rq:workers") == 2, "RQ to listen", START_SECONDS)

    def _start(self) -> None:
        self._start_worker([str(Path(sys.executable).with_name("rq")), "worker", "--url", self._broker])

    def _enqueue(self, diary: str) -> None:
        self._job = Queue(connection=self._redis).enqueue(rival_tasks.work, diary, retry=self._retry)

    def kill(self) -> None:
        """As asked for; a worker is started again."""
        horse = self._child()
        if self._kills != "horse":
            self._kill_worker()
        if self._kills != "worker":
            os.kill(horse, signal.SIGKILL)
        if self._kills != "horse":
            self._start()

    def _status(self) -> str:
        assert self._job is not None
        status = self._job.get_status(refresh=True)
        return status.value if status else "gone"

    def is_over(self) -> bool:
        """Whether it stands among the failed ones, which RQ itself does not run again."""
        return self._status() == JobStatus.FAILED.value

    def state(self) -> str:
        """As RQ says, which is told of an end a moment late."""
        return "completed" if self.completed() else f"RQ says: {self._status()}"
