"""The steps of an attempt and how much of the work each is. What is noted goes where the runner says."""

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import takewhile

from image_processor.telemetry import emit

MIN_SECONDS = 0.5
"""Between two notes, and before the first: a job that is shorter is never told of."""
MIN_POINTS = 5
"""Between two notes, in percent."""
SECONDS_PER_SECOND_OF_WRITING = 20
"""Notes that are slow to write, to a busy database, come less often: they take a twentieth of the time."""
MOST = 99
"""A hundred percent is told by the job's status alone."""


class Step(StrEnum):
    """What an attempt is at."""

    FETCH = "fetch"
    RENDER = "render"
    STORE = "store"
    COMMIT = "commit"


STEPS: Mapping[Step, int] = {Step.FETCH: 20, Step.RENDER: 60, Step.STORE: 15, Step.COMMIT: 5}
"""The share of each in the work, in percent and in their order."""
STAGED: Mapping[Step, int] = {step: share for step, share in STEPS.items() if step is not Step.FETCH}
"""Those of a job whose original lies in the stage; the shares of one another are the same."""


class Progress:
    """
    How much of one attempt is done: notes it now and then, never falls and never fails.

    Args:
        note: writes the percentage and the name of the step; what it raises is emitted and forgotten.
        has_fetch: whether the original is fetched first.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        note: Callable[[int, str], None],
        *,
        has_fetch: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note = note
        self._shares = STEPS if has_fetch else STAGED
        self._clock = clock
        self._step = next(iter(self._shares))
        self._percent = 0
        self._noted = 0
        self._next_at = clock() + MIN_SECONDS

    def step(self, step: str) -> None:
        """Say that the attempt is at this step now, and done with those before it."""
        if step in self._shares:
            self._step = Step(step)
            self.advance(0.0)

    def advance(self, share: float) -> None:
        """Say how much of the present step is done, 0 to 1."""
        done = self._before + self._shares[self._step] * min(1.0, max(0.0, share))
        percent = int(100 * done / sum(self._shares.values()))
        self._percent = max(self._percent, min(percent, MOST))
        if self._percent >= self._noted + MIN_POINTS and self._clock() >= self._next_at:
            self._write()

    @property
    def _before(self) -> int:
        return sum(
            self._shares[step] for step in takewhile(lambda step: step is not self._step, self._shares)
        )

    def _write(self) -> None:
        started = self._clock()
        try:
            self._note(self._percent, self._step)
        except Exception as error:  # noqa: BLE001 - no progress is worth an attempt
            emit("job.progress.failed", error=f"{type(error).__name__}: {error}")
        self._noted = self._percent
        ended = self._clock()
        self._next_at = ended + max(MIN_SECONDS, SECONDS_PER_SECOND_OF_WRITING * (ended - started))
