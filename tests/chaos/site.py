"""Where a run takes place, as each of its processes finds it: folder, plan, clock."""

import json
import os
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from chaos.ledger import Counter, Ledger
from chaos.meetings import Meetings
from chaos.plan import LONG, SHORT, Plan

VARIABLE = "CHAOS_SITE"


@dataclass(frozen=True)
class Site:
    """The same for all processes of a run."""

    folder: str
    seed: int
    is_long: bool
    started_at: float
    """On the clock that all processes of a machine share."""

    @classmethod
    def here(cls) -> Self:
        """The one that this process was started for."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @cached_property
    def plan(self) -> Plan:
        return Plan.of(self.seed, LONG if self.is_long else SHORT)

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def data(self) -> Path:
        return self.path / "data"

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.path / "ledger")

    @cached_property
    def renders(self) -> Counter:
        return Counter(self.path / "renders")

    @cached_property
    def meetings(self) -> Meetings:
        return Meetings(self.path / "meetings")

    @property
    def picture(self) -> bytes:
        """A JPEG that every upload is made of."""
        return (self.path / "picture.jpg").read_bytes()

    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.started_at
