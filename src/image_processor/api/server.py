"""The API as a process: uvicorn on a socket that somebody else listens on."""

import argparse
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from image_processor.api.app import create_app
from image_processor.api.protocol import BoundedProtocol
from image_processor.api.shutdown import Server
from image_processor.bootstrap import App, build_app
from image_processor.errors import ImageProcessorError
from image_processor.lifeline import end_with_parent
from image_processor.maintenance import sweep_stage
from image_processor.settings import load_settings
from image_processor.telemetry import emit, log_events

STOP_GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 15
SWEEP_SECONDS = 3600.0


def main(arguments: Sequence[str]) -> int:
    """Serve HTTP on the listening socket given by `--fd` until told to stop."""
    parser = argparse.ArgumentParser(prog="image_processor.api")
    parser.add_argument("--fd", type=int, required=True, help="a listening socket, inherited")
    parser.add_argument("--parent", type=int, help="end when this process does")
    options = parser.parse_args(arguments)
    if options.parent:
        end_with_parent(options.parent, signal.SIGTERM)
    settings = load_settings()
    log_events(json=settings.log_format == "json")
    app = build_app(settings)
    api = create_app(app)
    config = uvicorn.Config(
        api,
        http=BoundedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_GRACE_SECONDS,
    )
    with socket.socket(fileno=options.fd) as listener, _sweeping(app):
        Server(config, api.state.watcher).run(sockets=[listener])
    app.close()
    return 0


@contextmanager
def _sweeping(app: App) -> Iterator[None]:
    """Remove beside the block what a killed API left in the stage: no worker may share it and do so."""
    stop = threading.Event()

    def sweep() -> None:
        while True:
            try:
                sweep_stage(app.jobs, app.service.stage)
            except ImageProcessorError as error:  # the next turn comes
                emit("sweeper.sweep_stage.failed", error=str(error))
            if stop.wait(SWEEP_SECONDS):
                return

    threading.Thread(target=sweep, name="sweeper", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
