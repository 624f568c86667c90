"""`image-processor doctor`: what is wrong with this installation, before its users find out."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from image_processor.bootstrap import (
    check_file_roots,
    check_presets,
    check_tokens,
    check_webhook_secret,
    new_local_engine,
    open_database,
    open_incoming,
    open_storage,
    open_transport,
)
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import ImageProcessorError, StorageDamageError
from image_processor.jobs.sqlite import has_wal_reset_bug, sqlite_version
from image_processor.jobs.workers import WorkerRepository
from image_processor.settings import Settings, load_settings
from image_processor.storage.base import Storage
from image_processor.storage.keys import INCOMING

STALLED_SECONDS = 300.0


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    verdict: Verdict
    text: str


def doctor() -> None:
    """Show what every check found; exits with 1 where one is a problem."""
    settings = load_settings()
    findings = [finding for check in CHECKS for finding in checked(check, settings)]
    Console().print(_table(findings))
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        raise typer.Exit(1)


def checked(check: "Check", settings: Settings) -> list[Finding]:
    """What a check finds; an error is a finding too."""
    try:
        return list(check(settings))
    except (ImageProcessorError, OSError) as error:
        return [Finding(check.__name__.removeprefix("check_"), Verdict.PROBLEM, str(error))]


def check_python(_settings: Settings) -> Iterator[Finding]:
    """The interpreter."""
    yield Finding("python", Verdict.OK, sys.version.split()[0])


def check_secret(settings: Settings) -> Iterator[Finding]:
    """What tokens are checked with."""
    check_tokens(settings)
    if not settings.signs_tokens and not settings.has_known_secret():
        whose = "keys that the issuer publishes" if settings.jwt_jwks_url else "the public key that is set"
        yield Finding("tokens", Verdict.OK, f"{settings.jwt_algorithm}, with {whose}")
        if not settings.jwt_audience:
            text = "JWT_AUDIENCE is not set: the issuer's tokens for other services are accepted too"
            yield Finding("tokens", Verdict.WARNING, text)
    elif not settings.has_own_secret():
        text = "JWT_SECRET_KEY is not set or is an example: only development mode will start"
        yield Finding("secret", Verdict.WARNING, text)
    elif settings.has_short_secret():
        text = f"a secret has less than {settings.least_secret_bytes} bytes: only development mode will start"
        yield Finding("secret", Verdict.WARNING, text)
    else:
        yield Finding("secret", Verdict.OK, "set")
    if not settings.auth_required:
        yield Finding("authentication", Verdict.WARNING, "AUTH_REQUIRED=false: no token is asked for")


def check_sqlite(_settings: Settings) -> Iterator[Finding]:
    """The SQLite library."""
    version = ".".join(map(str, sqlite_version()))
    if has_wal_reset_bug():
        text = f"{version} can corrupt a database that several processes write; 3.51.3 or newer is needed"
        yield Finding("sqlite", Verdict.PROBLEM, text)
    else:
        yield Finding("sqlite", Verdict.OK, version)


def check_database(settings: Settings) -> Iterator[Finding]:
    """The jobs' tables."""
    where = "PostgreSQL" if settings.database_url else str(settings.database)
    with closing(open_database(settings)) as database:
        damage = database.damage()
    if damage:
        yield Finding("database", Verdict.PROBLEM, f"{where} is damaged: {damage}")
    else:
        yield Finding("database", Verdict.OK, where)


def check_broker(settings: Settings) -> Iterator[Finding]:
    """What carries the hints."""
    with closing(open_transport(settings)) as transport:
        waiting = transport.depth()
    yield Finding("broker", Verdict.OK, f"{settings.queue_backend}, {waiting} hints wait")


def check_workers(settings: Settings) -> Iterator[Finding]:
    """The workers' way to their hints."""
    with closing(open_database(settings)) as database:
        workers = WorkerRepository(database)
        living, stalled = len(workers.living()), workers.stalled(longer_than_seconds=STALLED_SECONDS)
    if stalled:
        told = f"{stalled} of {living} heard nothing of their broker for over 5 minutes, though jobs were due"
        yield Finding("workers", Verdict.PROBLEM, told)
    else:
        yield Finding("workers", Verdict.OK, f"{living} alive")


def check_settings(settings: Settings) -> Iterator[Finding]:
    """What a start would refuse."""
    for check in (check_presets, check_webhook_secret, check_file_roots):
        check(settings)
    yield Finding("settings", Verdict.OK, "those of presets, webhooks and folders hold")


def check_storage(settings: Settings) -> Iterator[Finding]:
    """Where variants are kept, and where originals wait: both are written to, read and cleared."""
    for name, storage in (("storage", open_storage(settings)), ("incoming", open_incoming(settings))):
        _try_out(storage)
        yield Finding(name, Verdict.OK, f"{_where(settings, name)} can be written to and read")


def _where(settings: Settings, name: str) -> str:
    if settings.storage_backend == "local":
        return str(settings.storage if name == "storage" else settings.incoming)
    bucket = settings.s3_bucket if name == "storage" else settings.bucket_of_incoming
    return f"the bucket {bucket}"


def _try_out(storage: Storage) -> None:
    key, content = f"{INCOMING}/doctor/{secrets.token_hex(8)}", b"written by doctor"
    with tempfile.NamedTemporaryFile() as probe:
        probe.write(content)
        probe.flush()
        storage.put(key, Path(probe.name), content_type="text/plain")
    try:
        with storage.open(key) as file:
            if file.read() != content:
                raise StorageDamageError("What was written came back changed.")
    finally:
        storage.delete(key)


def check_disk(settings: Settings) -> Iterator[Finding]:
    """The room on the disk that uploads are taken in on."""
    settings.staging.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.staging).free
    verdict = Verdict.OK if free > 4 * settings.min_free_bytes else Verdict.WARNING
    room = f"{free / 1e9:.1f} GB free; uploads stop below {settings.min_free_disk_mb} MB"
    yield Finding("disk", verdict, f"{settings.staging}: {room}")


def check_engine(settings: Settings) -> Iterator[Finding]:
    """The codec child, and what it may not do."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        engine = new_local_engine(settings, readable=(scratch,), scratch=scratch)
        try:
            yield from _engine_findings(engine)
        finally:
            engine.close()


def _engine_findings(engine: IsolatedEngine) -> Iterator[Finding]:
    for name, value in engine.protections().model_dump().items():
        is_active = value not in (False, None)
        text = "active" if value is True else f"{value:,}" if is_active else "not available on this machine"
        yield Finding(f"codec {name}", Verdict.OK if is_active else Verdict.WARNING, text)


Check = Callable[[Settings], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    check_python,
    check_settings,
    check_secret,
    check_sqlite,
    check_database,
    check_broker,
    check_workers,
    check_storage,
    check_disk,
    check_engine,
)

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "red"}


def _table(findings: list[Finding]) -> Table:
    table = Table("check", "verdict", "finding", box=None)
    for finding in findings:
        table.add_row(
            finding.name.replace("_", " "),
            f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]",
            escape(finding.text),
        )
    return table
