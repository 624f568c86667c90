"""The composition root: settings in, a wired application out. The only place that picks implementations."""

from typing import TYPE_CHECKING

from image_processor.on_demand import names_of

if TYPE_CHECKING:
    from image_processor.bootstrap.application import App, build_app, intake
    from image_processor.bootstrap.authentication import check_tokens, open_verifier
    from image_processor.bootstrap.checks import (
        check_file_roots,
        check_folders,
        check_presets,
        check_storage,
        check_webhook_secret,
    )
    from image_processor.bootstrap.connections import open_database, open_transport
    from image_processor.bootstrap.outside import open_locations, open_outbound
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

__getattr__ = names_of(
    __name__,
    {
        "App": "application",
        "WorkerParts": "workers",
        "build_app": "application",
        "build_worker": "workers",
        "check_file_roots": "checks",
        "check_folders": "checks",
        "check_presets": "checks",
        "check_storage": "checks",
        "check_tokens": "authentication",
        "check_webhook_secret": "checks",
        "intake": "application",
        "new_engine": "workers",
        "new_local_engine": "workers",
        "open_database": "connections",
        "open_incoming": "storages",
        "open_locations": "outside",
        "open_outbound": "outside",
        "open_stage": "storages",
        "open_storage": "storages",
        "open_transport": "connections",
        "open_verifier": "authentication",
    },
)
