"""One run: its processes and its servers, the faults that meet them, and the wait until all is at rest."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

import image_processor
from chaos import haste
from chaos.evidence import Evidence
from chaos.invariants import violations
from chaos.meetings import Word
from chaos.plan import FREEZE_LEASES, PATIENCE_LEASES, Fault, PlannedFault
from chaos.site import Site
from image_processor.errors import ImageProcessorError
from image_processor.jobs.database import Database
from image_processor.jobs.workers import WorkerRepository
from image_processor.settings import Settings, load_settings

TESTS = Path(__file__).parents[1]
PACKAGES = Path(image_processor.__file__).parents[1]
"""The same program as the test's own."""
TICK_SECONDS = 0.02
CODEC_PATIENCE_SECONDS = 4.0
STOP_SECONDS = 30.0
HAND_BACK_SHARE = 0.5
"""Of the dead workers, whose claims are taken back at once, as the service does that has started them."""
CODEC = "image_processor.engine.codec"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """What the combination at hand runs on; None is what it does without."""

    postgres: Any = None
    valkey: Any = None
    database_url: str = ""
    backend: str = "embedded"

    def faults(self) -> set[Fault]:
        """Those that can happen to this combination."""
        missing: set[Fault] = set()
        if self.valkey is None:
            missing |= {Fault.FLUSH_BROKER, Fault.RESTART_BROKER}
        if self.postgres is None:
            missing |= {Fault.RESTART_DATABASE, Fault.CRASH_DATABASE}
        return set(Fault) - missing


@dataclass
class Child:
    """One process of the run, and how the next one in its place is to be ordered."""

    role: str
    number: int = 0
    worker_id: str = ""
    pid: int = 0
    thaw_at: float | None = None
    """When it is to be woken, where it sleeps."""
    is_wanted: bool = True
    """Whether there is to be another one when it ends."""

    @property
    def name(self) -> str:
        return f"{self.role}-{self.number}"


@dataclass
class Run:
    """Call `start`, `suffer`, `settle` and `stop`, in this order; then look at the evidence."""

    site: Site
    servers: Servers
    namespace: str
    counts: Counter = field(default_factory=Counter)
    """What happened how often."""
    settled_in: float = 0.0

    def __post_init__(self) -> None:
        for folder in ("renders", "meetings", "logs", "data"):
            (self.site.path / folder).mkdir(parents=True)
        self.environment = self._environment()
        given = {name.lower(): value for name, value in self.environment.items() if name in _SETTINGS}
        self.settings = load_settings(**given)
        self.database = Database.open(self.settings.database_url or self.settings.database)
        self.database.migrate()
        self._recovery = haste.recovery(self.database, self.site)
        self._random = Random(f"run {self.site.seed}")
        self._children: dict[int, Child] = {}
        self._news: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._born: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._servers_turn = ThreadPoolExecutor(1)
        self._hands = ThreadPoolExecutor(1)
        self._under_way: list[Future[None]] = []

    def _environment(self) -> dict[str, str]:
        shape = self.site.plan.shape
        url = self.servers.valkey.url if self.servers.valkey else ""
        return {
            "DATA_PATH": str(self.site.data),
            "DATABASE_URL": self.servers.database_url,
            "QUEUE_BACKEND": self.servers.backend,
            "QUEUE_NAMESPACE": self.namespace,
            "REDIS_URL": url or "redis://127.0.0.1:1/0",
            "WORKERS": str(shape.slots),
            "LEASE_SECONDS": str(shape.lease),
            "POLL_SECONDS": "0.2",
            "STALL_SECONDS": "3",
            "RATE_LIMIT_MAX_UPLOADS": "0",
            "MIN_FREE_DISK_MB": "0",
        }

    def start(self) -> None:
        own = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        with (self.site.path / "logs" / "nursery.log").open("wb") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "chaos.nursery"],
                cwd=self.site.path,
                env=own
                | {"PYTHONPATH": f"{TESTS}{os.pathsep}{PACKAGES}"}
                | self.site.environment()
                | self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()
        worker = "celery" if self.servers.backend == "celery" else "worker"
        for number in range(self.site.plan.shape.workers):
            self._spawn(Child(worker, number))
        self._spawn(Child("sweeper"))
        self._spawn(Child("client"))

    def _listen(self) -> None:
        for line in iter(self._nursery.stdout.readline, ""):
            news = json.loads(line)
            if "born" in news:
                self._born.put(news["born"])
            else:
                self._news.put(news)

    def _spawn(self, child: Child) -> None:
        child.worker_id, child.thaw_at = str(uuid.uuid4()), None
        order = {
            "role": child.role,
            "log": str(self.site.path / "logs" / f"{child.name}.log"),
            "arguments": [child.worker_id] if child.role in ("worker", "celery") else [],
        }
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        child.pid = self._born.get(timeout=STOP_SECONDS)
        self._children[child.pid] = child
        self.counts[f"{child.role} started"] += 1

    def suffer(self) -> None:
        """Let the whole plan happen; returns when no fault is left and the user has every answer."""
        faults = [planned for planned in self.site.plan.faults if planned.fault in self.servers.faults()]
        while faults or not self._is_user_content() or not all(work.done() for work in self._under_way):
            while faults and faults[0].at <= self.site.seconds():
                planned = faults.pop(0)
                if not self._strike(planned) and self.site.seconds() < planned.at + CODEC_PATIENCE_SECONDS:
                    faults.append(planned)
                    break
            self._tick()
            if self.site.seconds() > self.site.plan.shape.span + self.site.plan.shape.settle:
                raise AssertionError(f"The user is not content. {self.evidence().stuck()}")
        for work in self._under_way:
            work.result()
        self.calm_at = self.site.seconds()

    def _tick(self) -> None:
        with suppress(queue.Empty):
            news = self._news.get(timeout=TICK_SECONDS)
            self._died(news["dead"], news["status"])
        self._watch_sleepers()

    def _died(self, pid: int, status: int) -> None:
        child = self._children.pop(pid)
        for silent in self.site.meetings.busy(pid):
            self.site.meetings.note(Word.SPOKEN, silent["tag"])
        self.counts[f"{child.role} ended {status}"] += 1
        self.site.ledger.note("dead", name=child.name, dead_pid=pid, worker_id=child.worker_id, status=status)
        if child.role == "client" and status == 0:
            return
        if child.role == "worker" and self._random.random() < HAND_BACK_SHARE:
            # Not here: the database may wait for one that sleeps, and that for us to wake it.
            self._under_way.append(self._hands.submit(self._hand_back, child.worker_id))
        if child.is_wanted:
            self._spawn(child)

    def _hand_back(self, worker_id: str) -> None:
        """As the service's own process does for a worker that it has started."""
        with suppress(ImageProcessorError):
            self.counts["claims handed back"] += len(self._recovery.reap_worker(worker_id))
            WorkerRepository(self.database).forget(worker_id)

    def _watch_sleepers(self) -> None:
        now = time.monotonic()
        lease = self.site.plan.shape.lease
        for child in self._workers():
            if child.thaw_at is None and _is_stopped(child.pid):
                awaits = self.site.meetings.sleepers(child.pid)
                leases = PATIENCE_LEASES if awaits else self._random.uniform(*FREEZE_LEASES)
                child.thaw_at = now + leases * lease
                self.counts["zombies"] += 1
            elif child.thaw_at is not None and (now >= child.thaw_at or self._meets(child)):
                child.thaw_at = None
                self._signal(child, signal.SIGCONT)

    def _meets(self, child: Child) -> bool:
        """Whether others are at work, at this moment, on all that this one slept over."""
        sleepers = self.site.meetings.sleepers(child.pid)
        if not sleepers or not all(self._is_worked_on(sleeper["tag"]) for sleeper in sleepers):
            return False
        for sleeper in sleepers:
            names = ("tag", "job_id", "seq")
            self.site.ledger.note("meeting", **{name: sleeper[name] for name in names})
        return True

    def _is_worked_on(self, tag: str) -> bool:
        begun = self.site.meetings.of(Word.BEGUN, tag)
        return begun is not None and begun["pid"] in self._children and not _is_stopped(begun["pid"])

    def _workers(self) -> list[Child]:
        return [child for child in self._children.values() if child.role in ("worker", "celery")]

    def _signal(self, child: Child, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)

    def _is_user_content(self) -> bool:
        return not any(child.role == "client" for child in self._children.values())

    def _strike(self, planned: PlannedFault) -> bool:
        """Whether there was somebody to meet."""
        how: dict[Fault, Callable[[], bool]] = {
            Fault.KILL_WORKER: lambda: self._hit("worker", planned, signal.SIGKILL),
            Fault.STOP_WORKER: lambda: self._hit("worker", planned, signal.SIGTERM),
            Fault.FREEZE_WORKER: lambda: self._hit("worker", planned, signal.SIGSTOP),
            Fault.KILL_CLIENT: lambda: self._hit("client", planned, signal.SIGKILL),
            Fault.KILL_SWEEPER: lambda: self._hit("sweeper", planned, signal.SIGKILL),
            Fault.KILL_CODEC: lambda: self._kill_codec(planned),
            Fault.FLUSH_BROKER: lambda: self._serve(self.servers.valkey.flush),
            Fault.RESTART_BROKER: lambda: self._serve(self.servers.valkey.restart),
            Fault.RESTART_DATABASE: lambda: self._serve(self.servers.postgres.restart),
            Fault.CRASH_DATABASE: lambda: self._serve(self._crash_database),
        }
        was_met = how[planned.fault]()
        self.counts[planned.fault] += was_met
        if was_met:
            self.site.ledger.note("fault", fault=planned.fault, at=planned.at)
        return was_met

    def _hit(self, role: str, planned: PlannedFault, number: signal.Signals) -> bool:
        roles = ("worker", "celery") if role == "worker" else (role,)
        there = sorted(
            (
                child
                for child in self._children.values()
                if child.role in roles and not self.site.meetings.busy(child.pid)
            ),
            key=lambda child: child.number,
        )
        if there:
            self._signal(there[int(planned.choice * len(there))], number)
        return bool(there)

    def _kill_codec(self, planned: PlannedFault) -> bool:
        codecs = [pid for worker in self._workers() for pid in _codecs(worker.pid)]
        if codecs:
            with suppress(ProcessLookupError):
                os.kill(codecs[int(planned.choice * len(codecs))], signal.SIGKILL)
        return bool(codecs)

    def _serve(self, work: Callable[[], None]) -> bool:
        self._under_way.append(self._servers_turn.submit(work))
        return True

    def _crash_database(self) -> None:
        self.servers.postgres.kill()
        self.servers.postgres.start()

    def settle(self) -> None:
        """Wait until nothing is left to be done; fails with all that is known of what is."""
        ends_at = self.calm_at + self.site.plan.shape.settle
        looked_at = 0.0
        while True:
            self._tick()
            if time.monotonic() - looked_at < 0.3:
                continue
            looked_at = time.monotonic()
            evidence = self.evidence()
            if not evidence.unrest() and not any(child.thaw_at for child in self._workers()):
                self.settled_in = self.site.seconds() - self.calm_at
                return
            if self.site.seconds() > ends_at:
                raise AssertionError("\n".join([*violations(evidence)[:20], evidence.stuck()]))

    def evidence(self) -> Evidence:
        return Evidence.gather(self.site, self.database, self.settings)

    def stop(self) -> None:
        """End every process in good order; those that do not end are killed."""
        for child in self._children.values():
            child.is_wanted = False
            self._signal(child, signal.SIGCONT)
            self._signal(child, signal.SIGKILL if child.role == "sweeper" else signal.SIGTERM)
        ends_at = time.monotonic() + STOP_SECONDS
        while self._children and time.monotonic() < ends_at:
            self._tick()
        self.counts["workers that had to be killed at the end"] = len(self._children)

    def close(self) -> None:
        for threads in (self._servers_turn, self._hands):
            threads.shutdown()
        self._nursery.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._nursery.wait(STOP_SECONDS)
        self._nursery.kill()
        self._nursery.wait()
        self._nursery.stdout.close()
        self.database.close()


_SETTINGS = {name.upper() for name in Settings.model_fields}


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _codecs(pid: int) -> list[int]:
    try:
        children = psutil.Process(pid).children()
        return [child.pid for child in children if CODEC in child.cmdline()]
    except psutil.Error:
        return []
