"""The composition root: settings in, a wired application out. The only place that picks implementations."""

from image_processor.bootstrap.application import App, build_app, intake
from image_processor.bootstrap.authentication import open_verifier
from image_processor.bootstrap.checks import (
    check_file_roots,
    check_folders,
    check_presets,
    check_storage,
    check_tokens,
    check_webhook_secret,
)
from image_processor.bootstrap.connections import (
    open_database,
    open_locations,
    open_outbound,
    open_transport,
)
from image_processor.bootstrap.storages import open_incoming, open_stage, open_storage
from image_processor.bootstrap.workers import WorkerParts, build_worker, new_engine, new_local_engine

__all__ = [
    "App",
    "WorkerParts",
    "build_app",
    "build_worker",
    "check_file_roots",
    "check_folders",
    "check_presets",
    "check_storage",
    "check_tokens",
    "check_webhook_secret",
    "intake",
    "new_engine",
    "new_local_engine",
    "open_database",
    "open_incoming",
    "open_locations",
    "open_outbound",
    "open_stage",
    "open_storage",
    "open_transport",
    "open_verifier",
]
