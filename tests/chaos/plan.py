"""What a chaos run is to do and to suffer: a pure function of its seed. Nothing happens here."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Self

USER = "ada"
BUCKET = "chaos"
TRANSIENT_SHARE = 0.12
DEADLY_SHARE = 0.1
"""Of the renders, that end at one of the dangerous moments after it: half die there, half fall asleep."""
LONG_SHARE = 0.1
FREEZE_LEASES = 1.8, 3.0
"""How long a worker sleeps, in leases: until its jobs are taken from it and others are at work on them."""
PATIENCE_LEASES = 6.0
"""How long one who is to meet somebody waits, in leases: that one may never come."""


class Kind(StrEnum):
    """What becomes of a picture that is rendered; it stands in the picture itself."""

    PLAIN = "plain"
    REAL = "real"
    """Rendered by the codec, in a child that may be killed."""
    POISON = "poison"
    """Kills the worker that renders it, each time."""
    STUBBORN = "stubborn"
    """Fails each time, and might not the next."""
    CORRUPT = "corrupt"
    DONE_LATE = "done-late"
    """Its first worker sleeps right before it commits, and wakes while another is at work on it."""
    FAILED_LATE = "failed-late"
    """Its first worker fails, sleeps right before it says so, and wakes while another is at work on it."""
    UNWANTED = "unwanted"
    """Is cancelled right before it is committed."""


class What(StrEnum):
    """What the user does."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    DELETE = "delete"
    REPLAY = "replay"


class Fault(StrEnum):
    """What goes wrong outside of the jobs."""

    KILL_WORKER = "kill worker"
    STOP_WORKER = "stop worker"
    """SIGTERM, as when a new version is rolled out."""
    FREEZE_WORKER = "freeze worker"
    """SIGSTOP until its leases are over."""
    KILL_CODEC = "kill codec"
    KILL_CLIENT = "kill client"
    KILL_SWEEPER = "kill sweeper"
    FLUSH_BROKER = "flush broker"
    RESTART_BROKER = "restart broker"
    RESTART_DATABASE = "restart database"
    CRASH_DATABASE = "crash database"


class Spot(StrEnum):
    """The moments of an attempt at which to die, or to fall asleep, is most dangerous."""

    STORE = "between two files"
    COMMIT = "before the commit"
    COMMITTED = "after the commit"
    SETTLE = "before the settlement"


@dataclass(frozen=True)
class Shape:
    """How large a run is. Times are in seconds."""

    jobs: int
    workers: int
    slots: int
    span: float
    """The time over which jobs are submitted and faults happen."""
    lease: float
    settle: float
    """How long everything may take to come to rest after the last fault."""
    faults: dict[Fault, int]

    @property
    def longest_freeze(self) -> float:
        return FREEZE_LEASES[1] * self.lease

    @property
    def grace(self) -> float:
        """How long things lie that a frozen worker may still touch."""
        return self.longest_freeze + 2.5


SHORT = Shape(
    jobs=36,
    workers=3,
    slots=2,
    span=3.0,
    lease=1.0,
    settle=90.0,
    faults={
        Fault.KILL_WORKER: 5,
        Fault.STOP_WORKER: 1,
        Fault.FREEZE_WORKER: 2,
        Fault.KILL_CODEC: 2,
        Fault.KILL_CLIENT: 1,
        Fault.KILL_SWEEPER: 1,
        Fault.FLUSH_BROKER: 2,
        Fault.RESTART_BROKER: 1,
        Fault.RESTART_DATABASE: 1,
        Fault.CRASH_DATABASE: 0,
    },
)
LONG = Shape(
    jobs=300,
    workers=6,
    slots=2,
    span=45.0,
    lease=2.0,
    settle=180.0,
    faults={
        Fault.KILL_WORKER: 36,
        Fault.STOP_WORKER: 4,
        Fault.FREEZE_WORKER: 12,
        Fault.KILL_CODEC: 12,
        Fault.KILL_CLIENT: 4,
        Fault.KILL_SWEEPER: 4,
        Fault.FLUSH_BROKER: 4,
        Fault.RESTART_BROKER: 1,
        Fault.RESTART_DATABASE: 1,
        Fault.CRASH_DATABASE: 1,
    },
)


@dataclass(frozen=True)
class PlannedJob:
    """One upload: its kind, and which upload has the same bytes."""

    number: int
    kind: Kind
    original: int
    priority: int

    @property
    def tag(self) -> str:
        """What stands in the picture."""
        return f"chaos {self.original} {self.kind}"


@dataclass(frozen=True, order=True)
class Action:
    """One thing that the user does; the submit of the same number comes before all others."""

    at: float
    number: int
    what: What


@dataclass(frozen=True)
class PlannedFault:
    """One thing that goes wrong; `choice` in 0-1 says whom it meets."""

    at: float
    fault: Fault
    choice: float


@dataclass(frozen=True)
class Plan:
    """All of it."""

    seed: int
    shape: Shape
    jobs: tuple[PlannedJob, ...]
    actions: tuple[Action, ...]
    faults: tuple[PlannedFault, ...]

    @classmethod
    def of(cls, seed: int, shape: Shape) -> Self:
        random = Random(f"plan {seed}")
        jobs = _jobs(random, shape)
        return cls(
            seed=seed,
            shape=shape,
            jobs=jobs,
            actions=_actions(random, shape, jobs),
            faults=_faults(random, shape),
        )

    def wanted(self, what: What) -> set[int]:
        return {action.number for action in self.actions if action.what is what}


HIGH = dict.fromkeys((Kind.DONE_LATE, Kind.FAILED_LATE, Kind.UNWANTED), 0)
"""Who is to meet somebody does not wait until everything else is done."""


def _jobs(random: Random, shape: Shape) -> tuple[PlannedJob, ...]:
    share = max(1, shape.jobs // 60)
    rare = [Kind.REAL] * (6 * share) + [Kind.STUBBORN] * (share + 1) + [Kind.CORRUPT] * (share + 1)
    # Five in the long form; each kills three workers, and may be begun anew.
    rare += [Kind.POISON] * max(2, share)
    rare += [Kind.DONE_LATE] * (3 + share) + [Kind.FAILED_LATE] * (2 + share) + [Kind.UNWANTED] * (2 + share)
    copies = 4 * share
    kinds = rare + [Kind.PLAIN] * (shape.jobs - copies - len(rare))
    random.shuffle(kinds)
    jobs = [
        PlannedJob(number, kind, number, HIGH.get(kind, random.randrange(3)))
        for number, kind in enumerate(kinds)
    ]
    plain = [job for job in jobs if job.kind is Kind.PLAIN]
    for number in range(len(jobs), shape.jobs):
        original = random.choice(plain).number
        jobs.append(PlannedJob(number, Kind.PLAIN, original, random.randrange(3)))
    return tuple(jobs)


LATEST = dict.fromkeys(Kind, 0.8) | {
    Kind.POISON: 0.2,
    Kind.STUBBORN: 0.3,
    Kind.FAILED_LATE: 0.5,
}
"""When the last one is submitted, as a part of the span: what dies slowly comes early."""


def _actions(random: Random, shape: Shape, jobs: tuple[PlannedJob, ...]) -> tuple[Action, ...]:
    at = {
        job.number: random.uniform(0, LATEST[job.kind] * shape.span)
        for job in jobs
        if job.number == job.original
    }
    # A copy comes while its original may still be alive.
    at |= {job.number: at[job.original] + random.uniform(0, 1) for job in jobs if job.number != job.original}
    actions = [Action(at[job.number], job.number, What.SUBMIT) for job in jobs]
    plain = [job.number for job in jobs if job.kind in (Kind.PLAIN, Kind.REAL)]
    for what, share in ((What.SUBMIT, 0.15), (What.CANCEL, 0.05), (What.DELETE, 0.05)):
        chosen = random.sample(plain, round(share * len(jobs)))
        actions += [Action(at[number] + random.uniform(0, 1.5), number, what) for number in chosen]
    unwanted = [job.number for job in jobs if job.kind is Kind.UNWANTED]
    actions += [Action(at[number], number, What.CANCEL) for number in unwanted]
    dead = [job.number for job in jobs if job.kind in (Kind.STUBBORN, Kind.CORRUPT)]
    dead += [job.number for job in jobs if job.kind is Kind.POISON][:1]
    actions += [Action(at[number] + 1.0, number, What.REPLAY) for number in dead]
    return tuple(sorted(actions))


EARLIEST = {Fault.FLUSH_BROKER: 0.4, Fault.RESTART_BROKER: 0.4}
"""As a part of the span: what a broker forgets before a sweeper has seen it is not missed so soon."""


def _faults(random: Random, shape: Shape) -> tuple[PlannedFault, ...]:
    faults = [
        PlannedFault(random.uniform(EARLIEST.get(fault, 0.05), 1.0) * shape.span, fault, random.random())
        for fault, count in shape.faults.items()
        for _ in range(count)
    ]
    return tuple(sorted(faults, key=lambda planned: planned.at))


@dataclass(frozen=True)
class Fate:
    """What happens in one render of a job, and after it."""

    seconds: float
    fails: bool
    dies_at: Spot | None = None
    sleeps_at: Spot | None = None


def fate(seed: int, tag: str, ordinal: int, lease: float) -> Fate:
    """The fate of the render with this ordinal, from 0."""
    random = Random(f"fate {seed} {tag} {ordinal}")
    # Whoever slept before is to wake while this goes on.
    is_watched = ordinal > 0 and fate(seed, tag, ordinal - 1, lease).sleeps_at is not None
    is_long = random.random() < LONG_SHARE or is_watched
    seconds = random.uniform(1.2, 2.0) * lease if is_long else random.uniform(0.1, 0.8)
    fails = random.random() < TRANSIENT_SHARE
    turn = random.random()
    spot = random.choice(tuple(Spot))
    return Fate(
        seconds=seconds,
        fails=fails,
        dies_at=spot if turn < DEADLY_SHARE / 2 else None,
        sleeps_at=spot if DEADLY_SHARE / 2 <= turn < DEADLY_SHARE else None,
    )
