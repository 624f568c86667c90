"""`image-processor worker`: one worker process with its slots, heartbeat and sweeper."""

from typing import Annotated

import typer

from image_processor.settings import load_settings
from image_processor.worker.process import run_worker


def worker(
    workers: Annotated[int | None, typer.Option(min=1, help="Images processed at the same time.")] = None,
) -> None:
    """Process uploads until told to stop (SIGTERM); any number may run beside each other."""
    raise typer.Exit(run_worker(load_settings(workers=workers)))
