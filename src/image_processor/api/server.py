"""The API as a process: uvicorn on a socket that somebody else listens on."""

import argparse
import signal
import socket
from collections.abc import Sequence

import uvicorn

from image_processor.api.app import create_app
from image_processor.api.shutdown import Server
from image_processor.bootstrap import build_app
from image_processor.lifeline import end_with_parent
from image_processor.settings import load_settings
from image_processor.telemetry import log_events

STOP_GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 15


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
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_GRACE_SECONDS,
    )
    with socket.socket(fileno=options.fd) as listener:
        Server(config, api.state.watcher).run(sockets=[listener])
    app.close()
    return 0
