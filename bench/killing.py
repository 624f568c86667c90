"""Kill a process in mid-work and watch what becomes of its job: the same for every system."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

LOOK_SECONDS = 0.05
BEGIN_SECONDS = 60.0
"""Within which a job that was submitted has to be begun."""


class System(Protocol):
    """Something that works on jobs in processes that can be killed; made for one way of being killed."""

    name: str
    killed: str
    """Which process, and what a supervisor does then."""
    undisturbed: float | None
    """How long a job takes that nobody disturbs, in seconds; None where that is known without measuring."""

    def start(self) -> None:
        """Start its processes, and return when they can be judged."""
        ...

    def submit(self) -> None:
        """Ask for one job; what is told below is told of this one."""
        ...

    def kill(self) -> None:
        """`kill -9` of the process, now that the job is being worked on, and what a supervisor does then."""
        ...

    def begun(self) -> Sequence[float]:
        """When each attempt at the job began, in epoch seconds."""
        ...

    def completed(self) -> float | None:
        """When the job was done, in epoch seconds."""
        ...

    def state(self) -> str:
        """How the system itself sees the job."""
        ...

    def is_over(self) -> bool:
        """Whether the system has given the job up."""
        ...

    def stop(self) -> None:
        """End every process that is left."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one job, in seconds since the kill."""

    begun_again: float | None
    completed: float | None
    watched: float
    is_over: bool
    """Whether the system has given it up."""
    state: str
    undisturbed: float | None
    """How long such a job takes that nobody disturbs, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One system and one death: in how many deployments beside each other, and how often in each."""

    new_system: Callable[[], System]
    watch_seconds: float
    deployments: int = 1
    rounds: int = 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came out of a case."""

    name: str
    killed: str
    outcomes: Sequence[Outcome]


def run(cases: Sequence[Case], *, at_once: int) -> list[Finding]:
    """What becomes of the jobs, the cases beside each other: nearly all of it is waiting."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = [[pool.submit(_rounds, case) for _ in range(case.deployments)] for case in cases]
        return [_finding(of_case) for of_case in futures]


def _finding(futures: Sequence["Future[Finding]"]) -> Finding:
    found = [future.result() for future in futures]
    outcomes = [outcome for finding in found for outcome in finding.outcomes]
    return Finding(name=found[0].name, killed=found[0].killed, outcomes=outcomes)


def _rounds(case: Case) -> Finding:
    system = case.new_system()
    try:
        system.start()
        outcomes = [_round(system, case.watch_seconds) for _ in range(case.rounds)]
    finally:
        system.stop()
    return Finding(name=system.name, killed=system.killed, outcomes=outcomes)


def _round(system: System, watch_seconds: float) -> Outcome:
    system.submit()
    wait_for(lambda: bool(system.begun()), f"{system.name} to begin the job", BEGIN_SECONDS)
    attempts = len(system.begun())
    killed_at = time.time()
    system.kill()
    while time.time() < killed_at + watch_seconds and system.completed() is None and not system.is_over():
        time.sleep(LOOK_SECONDS)
    again = system.begun()[attempts:]
    completed = system.completed()
    return Outcome(
        begun_again=again[0] - killed_at if again else None,
        completed=None if completed is None else completed - killed_at,
        watched=time.time() - killed_at,
        is_over=system.is_over(),
        state=system.state(),
        undisturbed=system.undisturbed,
    )


def wait_for(is_so: Callable[[], bool], what: str, seconds: float) -> None:
    """Look until it is so; raises TimeoutError."""
    ends_at = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"Waited {seconds:g} s for {what}.")
        time.sleep(LOOK_SECONDS)


def markdown(findings: Sequence[Finding]) -> str:
    """The findings as a table."""
    lines = [
        "| system | killed | begun again after: median (worst) | completed after: same | in the end |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [" | ".join(["", *_cells(finding), ""]).strip() for finding in findings]
    return "\n".join(lines)


def _cells(finding: Finding) -> list[str]:
    outcomes = finding.outcomes
    return [
        finding.name,
        finding.killed,
        _times([outcome.begun_again for outcome in outcomes], outcomes),
        _times([outcome.completed for outcome in outcomes], outcomes),
        "; ".join(dict.fromkeys(outcome.state for outcome in outcomes)),
    ]


def _times(seconds: Sequence[float | None], outcomes: Sequence[Outcome]) -> str:
    known = [second for second in seconds if second is not None]
    missing = [outcome for second, outcome in zip(seconds, outcomes, strict=True) if second is None]
    parts = [f"{statistics.median(known):.1f} s ({max(known):.1f} s), n = {len(known)}"] if known else []
    if over := [outcome.watched for outcome in missing if outcome.is_over]:
        parts.append(f"never: given up after {max(over):.1f} s, n = {len(over)}")
    if silent := [outcome.watched for outcome in missing if not outcome.is_over]:
        parts.append(f"not within {max(silent):.0f} s, n = {len(silent)}")
    return "; ".join(parts)
