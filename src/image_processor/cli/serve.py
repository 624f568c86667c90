"""`image-processor serve`: the API, the workers and the sweeper, started together and kept alive."""

import os
import socket
import sys
from contextlib import closing

from image_processor.bootstrap import (
    check_file_roots,
    check_folders,
    check_presets,
    check_storage,
    check_tokens,
    check_webhook_secret,
    open_database,
    open_transport,
)
from image_processor.cli.process_group import Member, ProcessGroup
from image_processor.cli.worker_command import CELERY_WORKER, WorkerCommand
from image_processor.errors import ConfigurationError
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.workers import WorkerRepository
from image_processor.settings import LOOPBACK_HOSTS, Settings, load_settings
from image_processor.telemetry import log_events
from image_processor.tokens import Scope, make_token, with_development_secret
from image_processor.worker.grace import STOP_GRACE_SECONDS

CHECKS = (check_presets, check_tokens, check_webhook_secret, check_file_roots, check_folders, check_storage)
LISTEN_BACKLOG = 1024


def serve(
    *,
    dev: bool = False,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
) -> None:
    """Run the service until told to stop. Raises ConfigurationError and what else forbids a start."""
    settings = load_settings(host=host, port=port, workers=workers)
    check_safe_to_start(settings, dev=dev)
    for check in CHECKS:
        check(settings)
    settings = with_development_secret(settings) if dev else settings
    log_events(json=settings.log_format == "json")
    with (
        closing(open_database(settings)) as database,
        closing(open_transport(settings)) as transport,
        listen(settings) as listener,
    ):
        announce(settings, listener, dev=dev)
        worker = WorkerCommand(
            recovery=RecoveryRepository(database), workers=WorkerRepository(database), transport=transport
        )
        group = members(settings, listener, worker)
        ProcessGroup(group, grace_seconds=STOP_GRACE_SECONDS + 5).run()


def check_safe_to_start(settings: Settings, *, dev: bool) -> None:
    """Refuse to start a service that strangers could use. Raises ConfigurationError."""
    if dev and not settings.binds_to_loopback:
        raise ConfigurationError(
            f"Development mode listens on {' or '.join(sorted(LOOPBACK_HOSTS))}, not on {settings.host}."
        )
    if not settings.auth_required and not settings.binds_to_loopback:
        raise ConfigurationError(
            "AUTH_REQUIRED=false is allowed on loopback only; anybody could use the service."
        )
    if dev and not settings.signs_tokens:
        raise ConfigurationError(
            f"Development mode signs a token, which it cannot with JWT_ALGORITHM={settings.jwt_algorithm}."
        )
    if not dev and not (settings.has_own_secret() or _checks_alone(settings)):
        raise ConfigurationError(
            "JWT_SECRET_KEY is not set, or is an example that everybody knows. Set one of your own "
            "(`openssl rand -hex 32`), or start with --dev to try the service on this machine."
        )
    if not dev and settings.has_short_secret():
        raise ConfigurationError(
            "JWT_SECRET_KEY, or one of JWT_PREVIOUS_SECRETS, has less than "
            f"{settings.least_secret_bytes} bytes: whoever has a token might find it by trying. Set a longer "
            "one (`openssl rand -hex 32`), or start with --dev to try the service on this machine."
        )


def _checks_alone(settings: Settings) -> bool:
    """Whether others sign the tokens, so that no secret is needed; none that is set may be an example."""
    return not settings.signs_tokens and not settings.has_known_secret()


def listen(settings: Settings) -> socket.socket:
    """A listening socket that outlives the API process, so that its restart refuses no connection."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}."
        ) from error
    return listener


def announce(settings: Settings, listener: socket.socket, *, dev: bool) -> None:
    """Print where the service is; in development mode also a token."""
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [f"Image Processor on {address}  (API documentation: {address}/docs)"]
    if dev:
        lines += ["Development mode. A token for the user `development`, valid for 24 hours:", ""]
        lines += [make_token(settings, "development", scopes=Scope), ""]
    if settings.queue_backend == "celery":
        lines += ["The workers are Celery's, and started by themselves:", CELERY_WORKER, ""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def members(settings: Settings, listener: socket.socket, worker: WorkerCommand) -> list[Member]:
    """The API on the shared socket, and one worker process with all slots where the workers are ours."""
    os.environ.update(child_environment(settings))
    parent = ["--parent", str(os.getpid())]
    api = [sys.executable, "-m", "image_processor.api", "--fd", str(listener.fileno()), *parent]
    members = [Member(name="api", command=lambda: api, pass_fds=(listener.fileno(),))]
    if settings.queue_backend != "celery":
        members.append(Member(name="worker", command=worker.command, on_death=worker.hand_back))
    return members


def child_environment(settings: Settings) -> dict[str, str]:
    """What the command line decided, for the processes that read the environment again."""
    return {
        "HOST": settings.host,
        "PORT": str(settings.port),
        "WORKERS": str(settings.workers),
        "JWT_SECRET_KEY": settings.jwt_secret_key,
    }
