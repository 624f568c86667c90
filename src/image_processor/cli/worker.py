"""`image-processor worker`: one worker process with its slots, heartbeat and sweeper."""

from typing import Annotated

import typer

from image_processor.cli.serve import CELERY_WORKER
from image_processor.errors import ConfigurationError
from image_processor.settings import load_settings
from image_processor.worker.process import run_worker


def worker(
    workers: Annotated[int | None, typer.Option(min=1, help="Images processed at the same time.")] = None,
) -> None:
    """Process uploads until told to stop (SIGTERM); any number may run beside each other."""
    settings = load_settings(workers=workers)
    if settings.queue_backend == "celery":
        raise ConfigurationError(f"With QUEUE_BACKEND=celery the workers are Celery's: `{CELERY_WORKER}`.")
    raise typer.Exit(run_worker(settings))
