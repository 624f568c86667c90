"""`image-processor inspect`: what pictures are and what they say of themselves, without a service."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from image_processor.bootstrap import new_local_engine
from image_processor.cli.process import MAX_LOCAL_BYTES, find_inputs
from image_processor.engine.base import Engine, Facts, InspectRequest
from image_processor.errors import ImageProcessorError, InvalidRequestError, UnsupportedFormatError
from image_processor.intake.sniff import SNIFF_BYTES, describe, sniff
from image_processor.pipeline import ImageFormat, Limits
from image_processor.settings import load_settings

DEADLINE_SECONDS = 60.0
DEFAULT_COLORS = 5


def inspect(inputs: list[Path], *, as_json: bool, colors: int, hashes: bool, gps: bool) -> None:
    """Show what is found in these pictures and folders; exits with 1 where one could not be read."""
    paths = [given.path for given in find_inputs(inputs)]
    if not paths:
        raise InvalidRequestError("There is no picture to inspect.")
    wanted = {
        "dominant_color": bool(colors),
        "palette": colors,
        "blurhash": hashes,
        "thumbhash": hashes,
        "gps": gps,
    }
    show = _show_json if as_json else _show_table
    failures = 0
    for path, outcome in inspect_all(paths, wanted):
        if isinstance(outcome, Facts):
            show(path, outcome)
        else:
            failures += 1
            _complain(path, outcome)
    if failures:
        raise typer.Exit(1)


def inspect_all(
    paths: list[Path], wanted: dict[str, Any]
) -> Iterator[tuple[Path, Facts | ImageProcessorError]]:
    """Each file with its facts or its error."""
    settings = load_settings()
    limits = settings.limits.model_copy(update={"max_bytes": MAX_LOCAL_BYTES})
    readable = tuple({path.parent for path in paths})
    with tempfile.TemporaryDirectory() as scratch:
        engine = new_local_engine(settings, readable=readable, scratch=Path(scratch))
        try:
            for path in paths:
                yield path, _outcome(engine, path, limits, wanted)
        finally:
            engine.close()


def _outcome(
    engine: Engine, path: Path, limits: Limits, wanted: dict[str, Any]
) -> Facts | ImageProcessorError:
    try:
        request = InspectRequest(source=path, source_format=_format(path), limits=limits, **wanted)
        return engine.inspect(request, deadline_seconds=DEADLINE_SECONDS)
    except ImageProcessorError as error:
        return error


def _format(path: Path) -> ImageFormat:
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
    except OSError as error:
        raise InvalidRequestError(f"The file cannot be read: {error.strerror}.") from error
    found = sniff(head)
    if found is None:
        raise UnsupportedFormatError(f"The file looks like {describe(head)}.")
    return found


def _show_json(path: Path, facts: Facts) -> None:
    line = {"file": str(path), **facts.model_dump(mode="json", exclude_none=True)}
    typer.echo(json.dumps(line, ensure_ascii=False))


def _show_table(path: Path, facts: Facts) -> None:
    table = Table(box=None, show_header=False)
    for name, value in rows(facts):
        table.add_row(name, value)
    console = Console()
    console.print(f"[bold]{escape(str(path))}[/bold]", highlight=False, soft_wrap=True)
    console.print(table, "")


def rows(facts: Facts) -> Iterator[tuple[str, str]]:
    """Name and value of all that is known, as rich prints it."""
    shown = facts.model_dump(exclude_none=True, exclude={"exif", "palette", "media_type"})
    for name, value in shown.items():
        yield name.replace("_", " "), _plain(value)
    for color in facts.palette:
        yield "palette", f"[on {color.color}]  [/] {color.color} {color.share:.0%}"
    if facts.exif:
        for name, value in facts.exif.model_dump(exclude_none=True, exclude={"gps"}).items():
            yield name.replace("_", " "), _plain(value)
        if facts.exif.gps:
            yield "gps", f"{facts.exif.gps.latitude}, {facts.exif.gps.longitude}"


def _plain(value: object) -> str:
    """As people write it; a name with brackets is no markup."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def _complain(path: Path, error: ImageProcessorError) -> None:
    console = Console(stderr=True)
    console.print(f"[red]{escape(str(path))}[/red]: {escape(str(error))}", highlight=False, soft_wrap=True)
