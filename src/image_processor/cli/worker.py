"""`image-processor worker`: one worker process with its slots, heartbeat and sweeper."""

import typer

from image_processor.cli.worker_command import CELERY_WORKER
from image_processor.errors import ConfigurationError
from image_processor.settings import load_settings
from image_processor.worker.process import run_worker


def worker(workers: int | None = None) -> None:
    """Run one with so many slots until it is told to stop; exits as it did."""
    settings = load_settings(workers=workers)
    if settings.queue_backend == "celery":
        raise ConfigurationError(f"With QUEUE_BACKEND=celery the workers are Celery's: `{CELERY_WORKER}`.")
    raise typer.Exit(run_worker(settings))
