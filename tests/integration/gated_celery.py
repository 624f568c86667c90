"""
A real Celery worker, but for its engine: `celery -A integration.gated_celery worker`.

Its engine renders once the file GATE exists; its runner raises MemoryError as often as the file FAULTS says;
at SIGTERM it gives running jobs GRACE seconds; with DEAF its engine hears no end.
"""

import os
from dataclasses import replace
from pathlib import Path

from image_processor.bootstrap import build_worker
from image_processor.transports.celery_app import app
from image_processor.worker import celery_tasks
from integration.gated_worker import GatedEngine

__all__ = ["app"]


class DeafEngine(GatedEngine):
    """As one that reads from a server that has fallen silent."""

    def interrupt(self):
        pass


class FragileRunner:
    """Fails in a way that a task of Celery's must not."""

    def __init__(self, runner, faults):
        self._runner = runner
        self._faults = faults

    def run(self, attempt):
        if self._faults.exists():
            self._faults.unlink()
            raise MemoryError
        self._runner.run(attempt)


def build_gated_worker(settings, **given):
    parts = build_worker(settings, **given)
    engine = DeafEngine if "DEAF" in os.environ else GatedEngine
    return replace(
        parts,
        new_engine=lambda: engine(Path(os.environ["GATE"])),
        runner=FragileRunner(parts.runner, Path(os.environ["FAULTS"])),
    )


celery_tasks.build_worker = build_gated_worker
celery_tasks.STOP_GRACE_SECONDS = float(os.environ["GRACE"])
celery_tasks.HAND_BACK_SECONDS = float(os.environ.get("HAND_BACK", celery_tasks.HAND_BACK_SECONDS))
