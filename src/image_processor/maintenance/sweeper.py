"""The sweeper: its steps, when each is due, and the gate before the reaper."""

import math
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from image_processor import file_clock
from image_processor.errors import ImageProcessorError
from image_processor.intake.stage import Stage
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.values import Purge, Settlement
from image_processor.maintenance.hints import Hints
from image_processor.maintenance.house import House
from image_processor.maintenance.outputs import OutputSweep
from image_processor.placement import variant_keys
from image_processor.storage.breaker import is_outage
from image_processor.telemetry import emit

ORPHAN_SECONDS = 3600.0
"""A staged file or scratch folder that no row knows is removed when it is older than this."""
SHARED_ORPHAN_SECONDS = 24 * ORPHAN_SECONDS
"""So is an original in the storage, by its clock: no machine's clock and no retry is as late as that."""
STAGED_BATCH = 500
"""So many staged files are asked for at once: those of a long queue are old, and many."""
PURGE_BATCH = 5
PURGE_SECONDS = 5.0
"""How long a turn may purge: while it does, nobody sweeps."""
PURGE_LEASE_SECONDS = 600.0
TICK_SECONDS = 1.0
EVERY_TICK = 0.0
MINUTE = 60.0
HOUR = 60 * MINUTE
MAX_PAUSE_SECONDS = 5 * TICK_SECONDS
"""A sweeper that was away for longer, and for half a lease, was frozen with all it might have seen."""


@dataclass
class _Step:
    run: Callable[[], int]
    every_seconds: float
    tells_health: bool = False
    """Whether it does nothing but ask the database, so that its failure is the database's."""
    due_at: float = 0.0


class ReaperGate:
    """
    Opens only when this process has seen a healthy database, and an even clock, for one full lease.

    After an outage, or while a whole container was frozen, nobody could heartbeat: every lease looks expired.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._healthy_since = self._asked_at = time.monotonic()
        self._offset = time.time() - self._asked_at
        self._database_offset: float | None = None

    def is_open(self) -> bool:
        """Whether leases that have ended may be believed now; to be asked at every tick."""
        now = time.monotonic()
        offset, pause = time.time() - now, now - self._asked_at
        if abs(offset - self._offset) > self._lease_seconds / 3 or pause > self._longest_pause():
            self.shut()
        self._offset, self._asked_at = offset, now
        return now - self._healthy_since >= self._lease_seconds

    def is_open_at(self, database_time: float) -> bool:
        """The same, and whether the database's clock, which says so, went evenly since the last look."""
        offset = database_time - time.monotonic()
        known = offset if self._database_offset is None else self._database_offset
        if abs(offset - known) > self._lease_seconds / 3:
            self.shut()
        self._database_offset = offset
        return self.is_open()

    def is_open_to(self, asked_at: float, database_time: float) -> bool:
        """The same, and whether this answer came soon: over one that was waited for leases may have ended."""
        self.answered(asked_at)
        return self.is_open_at(database_time)

    def answered(self, asked_at: float) -> None:
        """A question of that moment has been answered: late, by a database that heartbeats waited for too."""
        if time.monotonic() - asked_at > self._lease_seconds / 3:
            self.shut()

    def _longest_pause(self) -> float:
        return max(MAX_PAUSE_SECONDS, self._lease_seconds / 2)

    def shut(self) -> None:
        """The database could not be asked: count anew."""
        self._healthy_since = time.monotonic()
        self._database_offset = None


class Sweeper:
    """
    Runs each step when it is due. A step that fails is tried again at its next turn.

    Quick steps ask the database and the broker alone. Slow ones ask disks and storages, which may take their
    time: they have a thread of their own, so that no lease and no hint waits for them.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._gate = ReaperGate(house.lease_seconds)
        hints = Hints(house)
        outputs = OutputSweep(house.storage, house.strays) if house.strays else None
        self._steps = {
            "reap": _Step(self.reap, EVERY_TICK, tells_health=True),
            "expire": _Step(self.expire, EVERY_TICK, tells_health=True),
            "follow_epoch": _Step(hints.follow_epoch, EVERY_TICK),
            "reclaim": _Step(hints.reclaim, 5 * TICK_SECONDS),
            "find_overtaken": _Step(hints.find_overtaken, 15 * TICK_SECONDS),
            "dispatch": _Step(hints.fill, EVERY_TICK),
            "prune": _Step(self.prune, 10 * MINUTE),
        }
        self._slow_steps = (
            {
                "purge": _Step(self.purge, 10 * TICK_SECONDS),
                "sweep_stage": _Step(self.sweep_stage, MINUTE),
                "sweep_scratch": _Step(self.sweep_scratch, MINUTE),
                "sweep_shared_stage": _Step(self.sweep_shared_stage, HOUR),
            }
            | ({"sweep_outputs": _Step(outputs.turn, MINUTE)} if outputs else {})
            | {chore.name: _Step(chore.run, chore.every_seconds) for chore in house.chores}
        )

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop; not in step with other sweepers."""
        _repeat(self.tick, stop)

    def run_cleaning(self, stop: threading.Event) -> None:
        """Clean until told to stop, on another thread than `run`."""
        _repeat(self.clean, stop)

    def tick(self) -> None:
        """Run the quick steps that are due."""
        self._run_due(self._steps)

    def clean(self) -> None:
        """Run the slow steps that are due."""
        self._run_due(self._slow_steps)

    def _run_due(self, steps: dict[str, _Step]) -> None:
        for name, step in steps.items():
            if step.due_at <= (now := time.monotonic()):
                step.due_at = now + step.every_seconds
                self._run(name, step)

    def _run(self, name: str, step: _Step) -> None:
        asked_at = time.monotonic()
        try:
            count = step.run()
        except Exception as error:  # noqa: BLE001 - a worker that died of this would leave its jobs
            if step.tells_health:
                self._gate.shut()
            emit(f"sweeper.{name}.failed", error=f"{type(error).__name__}: {error}")
            return
        if step.tells_health:
            self._gate.answered(asked_at)
        if count:
            emit(f"sweeper.{name}", count=count)

    def reap(self) -> int:
        """Take jobs from workers whose lease has ended."""
        if not self._gate.is_open():
            return 0
        is_credible = partial(self._gate.is_open_to, time.monotonic())
        return self._settled(self._house.recovery.reap(is_credible=is_credible))

    def expire(self) -> int:
        """End jobs that were not started in their time."""
        return self._settled(self._house.recovery.expire())

    def _settled(self, settlements: list[Settlement]) -> int:
        for settlement in settlements:
            emit(
                "job.recovered", job_id=settlement.job_id, status=settlement.status, reason=settlement.reason
            )
        return len(settlements)

    def purge(self) -> int:
        """Remove every object of images that are deleted or failed, once no worker can be alive with them."""
        images, count = self._house.images, 0
        ends_at = time.monotonic() + PURGE_SECONDS
        while time.monotonic() < ends_at:
            lease_ends_at = time.monotonic() + PURGE_LEASE_SECONDS / 2
            if not (purges := images.purgeable(PURGE_BATCH, lease_seconds=PURGE_LEASE_SECONDS)):
                break
            count += sum(self._purge(purge, lease_ends_at) for purge in purges)
        return count

    def _purge(self, purge: Purge, lease_ends_at: float) -> bool:
        """
        Whether it is done; one that cannot be done holds up no other, and gets its next turn later.

        Nothing is removed once the lease may be another's: that one may have come to the end of it, and a
        replay of the job have stored the same keys anew.
        """
        house = self._house
        try:
            for key in _keys(purge):
                if time.monotonic() > lease_ends_at:
                    return False
                house.storage.delete(key)
            if stored := _stored(purge):  # only what was served can have been copied
                house.cdn.invalidate(stored)
            if not house.jobs.is_staged(purge.staging_path):
                house.stage.remove(purge.staging_path)
            return house.images.mark_purged(purge.image_id)
        except ImageProcessorError as error:
            emit("image.purge.failed", image_id=purge.image_id, error=str(error))
            return False

    def sweep_stage(self) -> int:
        """Remove staged files that no job needs; a young one may belong to an upload in the making."""
        return sweep_stage(self._house.jobs, self._house.stage)

    def sweep_shared_stage(self) -> int:
        """Remove originals from the storage that no job needs."""
        stage = self._house.stage
        names = stage.shared_names_older_than(SHARED_ORPHAN_SECONDS)
        return _sweep_staged(self._house.jobs, names, stage.remove)

    def sweep_scratch(self) -> int:
        """Remove what killed workers left in the making."""
        return _remove_folders(self._house.scratch) + sum(
            sweep(ORPHAN_SECONDS) for sweep in self._house.sweeps
        )

    def prune(self) -> int:
        """Forget rows that nobody asks for any more."""
        self._house.rate_limits.prune(2 * self._house.rate_limit_window_seconds)
        self._house.recovery.prune_idempotency_keys()
        return self._house.recovery.prune(self._house.retention_days)


def sweep_stage(jobs: JobRepository, stage: Stage) -> int:
    """Remove files from this machine's stage that no job needs and no upload still writes; gives how many."""
    return _sweep_staged(jobs, stage.names_older_than(ORPHAN_SECONDS), stage.discard)


def _sweep_staged(jobs: JobRepository, names: Iterable[str], remove: Callable[[str], None]) -> int:
    names, count = iter(names), 0
    failure: ImageProcessorError | None = None
    while batch := set(islice(names, STAGED_BATCH)):
        for name in batch - jobs.staged(batch):
            try:
                remove(name)
            except ImageProcessorError as error:  # one that cannot be removed holds up no other
                if is_outage(error):
                    raise
                failure = failure or error
            else:
                count += 1
    if failure:
        raise failure
    return count


def _repeat(turn: Callable[[], None], stop: threading.Event) -> None:
    while not stop.wait(TICK_SECONDS * random.uniform(0.7, 1.3)):  # noqa: S311 - spreads load, hides nothing
        turn()


def _keys(purge: Purge) -> set[str]:
    """All that may be in the storage; what was written to a place that the user named is the user's."""
    return _stored(purge) | set(variant_keys(purge).values())


def _stored(purge: Purge) -> set[str]:
    return {variant.key for variant in purge.variants.values() if "://" not in variant.key}


def _remove_folders(scratch: Path) -> int:
    entries = _entries(scratch)
    newest = file_clock.now(scratch) - ORPHAN_SECONDS if entries else 0.0
    old = [path for path in entries if _modified_at(path) < newest]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return sum(not path.exists() for path in old)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # its worker was done with it
        return math.inf
