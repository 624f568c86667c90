"""The command line: one file per command."""

import sys

import typer

from image_processor.cli.commands import (
    backup,
    doctor,
    inspect,
    process,
    restore,
    serve,
    storage,
    token,
    worker,
)
from image_processor.errors import ImageProcessorError

app = typer.Typer(
    name="image-processor",
    help="Upload, check, process into variants, store, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, worker, token, process, inspect, doctor, backup, restore):
    app.command()(command)
app.add_typer(storage, name="storage")


def main() -> None:
    """Run the command line; an error of ours is one sentence on standard error and exit code 2."""
    try:
        app()
    except ImageProcessorError as error:
        sys.stderr.write(f"image-processor: {' '.join(str(error).split())}\n")
        sys.exit(2)
