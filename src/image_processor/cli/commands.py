"""The commands with their options and help. What each does is in the module of its name, loaded to do it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from image_processor.tokens.claims import Scope

MAX_COLORS = 16
"""What an engine gives at most; its own constant would load the engine for `--help`."""


class Backend(StrEnum):
    """A kind of storage, as STORAGE_BACKEND names it."""

    LOCAL = "local"
    S3 = "s3"


class Thoroughness(StrEnum):
    """How arrivals are checked."""

    WRITTEN = "written"
    FULL = "full"


def serve(
    *,
    dev: Annotated[
        bool, typer.Option("--dev", help="Development mode: loopback only, prints a token.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on (HOST).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on (PORT).")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Images processed at the same time (WORKERS).")
    ] = None,
) -> None:
    """Start the whole service: API, workers and sweeper; with Celery the API alone."""
    from image_processor.cli.serve import serve as run  # noqa: PLC0415

    run(dev=dev, host=host, port=port, workers=workers)


def worker(
    workers: Annotated[int | None, typer.Option(min=1, help="Images processed at the same time.")] = None,
) -> None:
    """Process uploads until told to stop (SIGTERM); any number may run beside each other."""
    from image_processor.cli.worker import worker as run  # noqa: PLC0415

    run(workers)


def token(
    sub: Annotated[str, typer.Option(help="The user that the token stands for.")],
    valid_hours: Annotated[float, typer.Option(min=0.01, help="Hours until it expires.")] = 24,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows; may be given several times. Without it: upload, read and delete."),
    ] = None,
) -> None:
    """Print a token for a user, signed with JWT_SECRET_KEY or with the secret of development mode."""
    from image_processor.cli.token import token as run  # noqa: PLC0415

    run(sub, valid_hours=valid_hours, scopes=scope or ())


def process(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    output: Annotated[Path, typer.Option(help="The folder for the variants.")],
    preset: Annotated[str, typer.Option(help="What to make of each picture.")] = "web",
    workers: Annotated[int | None, typer.Option(min=1, help="Pictures processed at the same time.")] = None,
) -> None:
    """Make all variants of pictures, as the service would: OUTPUT/NAME_VARIANT.EXT."""
    from image_processor.cli.process import process as run  # noqa: PLC0415

    run(inputs, output, preset=preset, workers=workers)


def inspect(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    colors: Annotated[
        int, typer.Option(min=0, max=MAX_COLORS, help="Find the palette: at most so many colours.")
    ] = 0,
    hashes: Annotated[bool, typer.Option("--hashes", help="Work out BlurHash and ThumbHash.")] = False,
    gps: Annotated[bool, typer.Option("--gps", help="Tell where it was taken.")] = False,
) -> None:
    """Tell what pictures are: size, format, colours, camera. Reads headers, unless pixels are asked for."""
    from image_processor.cli.inspect import inspect as run  # noqa: PLC0415

    run(inputs, as_json=as_json, colors=colors, hashes=hashes, gps=gps)


def doctor() -> None:
    """Check this installation; the exit code is 1 where something is wrong."""
    from image_processor.cli.doctor import doctor as run  # noqa: PLC0415

    run()


def backup(
    folder: Annotated[Path, typer.Argument(help="The backup's own folder, which must not exist yet.")],
    *,
    files: Annotated[
        bool, typer.Option("--files", help="Copy the stored files too, not only the list of them.")
    ] = False,
) -> None:
    """
    Back up the database, the originals that wait, and the list of stored files; the service may run.

    PostgreSQL is dumped with its own tools: what is made then is the rest, and the exit code is 0. It is 1
    where --files found files missing or damaged; they are not in the backup.
    """
    from image_processor.cli.backup import backup as run  # noqa: PLC0415

    run(folder, files=files)


def restore(
    folder: Annotated[Path, typer.Argument(help="The folder of a backup.")],
    *,
    into: Annotated[
        Path | None,
        typer.Option(help="The data folder to restore into (DATA_PATH), made where there is none."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a database that is there; it is kept beside.")
    ] = False,
) -> None:
    """
    Put a backup back, with the service stopped, and verify the storage against it.

    Every hash is checked before anything is written. The exit code is 1 where files are missing afterwards.
    """
    from image_processor.cli.backup import restore as run  # noqa: PLC0415

    run(folder, into=into, force=force)


storage = typer.Typer(
    help="Look after stored files: take them elsewhere, compare them with the database.", no_args_is_help=True
)


@storage.command()
def migrate(
    *,
    source: Annotated[Backend, typer.Option("--from", help="Where the files are.")],
    target: Annotated[Backend, typer.Option("--to", help="Where they are to be too.")],
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files copied at the same time.")] = 4,
    verify: Annotated[
        Thoroughness, typer.Option(help="written: checked as they are taken in; full: read back as well.")
    ] = Thoroughness.WRITTEN,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be copied; copy nothing.")
    ] = False,
) -> None:
    """
    Copy every file from one storage to another under the same key; nothing is removed.

    Killed or interrupted, it goes on where it was when it is run again. It may run while the service does:
    run it once live, stop the service, run it again for what came meanwhile, and change STORAGE_BACKEND.
    The exit code is 0 only if every file has arrived and was checked.
    """
    from image_processor.cli.storage import migrate as run  # noqa: PLC0415

    run(source, target, jobs=jobs, verify=verify, dry_run=dry_run)


@storage.command()
def verify(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and compare its SHA-256.")] = False,
    remove_strays: Annotated[
        bool,
        typer.Option("--remove-strays", help="Remove files of deleted images that are older than a day."),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files looked at at the same time.")] = 4,
) -> None:
    """
    Check that every row has its file and every file its row; the service may run meanwhile.

    The exit code is 1 where a file is missing or damaged. Files that no row knows of are named and no more.
    """
    from image_processor.cli.storage import verify as run  # noqa: PLC0415

    run(deep=deep, remove_strays=remove_strays, jobs=jobs)
