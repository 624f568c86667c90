"""`image-processor process`: the pipeline over files on this machine, without a service."""

import itertools
import queue
import signal
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from image_processor.bootstrap import new_local_engine
from image_processor.engine.base import Engine, Rendering, RenderRequest
from image_processor.errors import (
    ConfigurationError,
    ImageProcessorError,
    InvalidRequestError,
    StorageError,
)
from image_processor.intake.probe import check_limits
from image_processor.intake.stage import check_file
from image_processor.pipeline import Limits, Preset
from image_processor.runner import deadline_seconds
from image_processor.settings import Settings, load_settings

MAX_LOCAL_BYTES = 4 * 1024**3
"""The limit on uploads is for strangers; these files are the caller's own."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file to process, and the name that its variants get."""

    path: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is done to every input."""

    preset: Preset
    output: Path
    scratch: Path
    limits: Limits


def process(inputs: list[Path], output: Path, *, preset: str, workers: int | None) -> None:
    """Make all variants of these pictures and folders; exits with 1 where one failed."""
    settings = load_settings(workers=workers)
    chosen = _preset(settings, preset)
    found = list(find_inputs(inputs))
    if not found:
        raise InvalidRequestError("There is no picture to process.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves as clean a folder as Ctrl-C does
    with _scratch_folder(output) as scratch:
        task = Task(
            preset=chosen,
            output=output,
            scratch=scratch,
            limits=settings.limits.model_copy(update={"max_bytes": MAX_LOCAL_BYTES}),
        )
        failures = process_all(found, task, settings)
    if failures:
        raise typer.Exit(1)


def process_all(inputs: list[Input], task: Task, settings: Settings) -> int:
    """Process every input with a progress bar; how many failed."""
    console = Console(stderr=True)
    failures = 0
    with Engines(settings, task, inputs) as engines, _progress(console) as progress:
        bar = progress.add_task("", total=len(inputs))
        for given, outcome in engines.run(inputs):
            if isinstance(outcome, ImageProcessorError):
                failures += 1
                _tell(console, f"[red]{_plain(given.path)}[/red]: {_plain(outcome)}")
            else:
                _tell(console, f"{_plain(given.path)}: {_summary(outcome)}")
            progress.advance(bar)
    return failures


class Engines:
    """A few engines, and the threads that keep them busy."""

    def __init__(self, settings: Settings, task: Task, inputs: list[Input]) -> None:
        self._task = task
        self._count = min(settings.workers, len(inputs))
        self._engines: list[Engine] = []
        self._idle: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        self._readable = tuple({given.path.parent for given in inputs})
        self._settings = settings
        self._pool = ThreadPoolExecutor(self._count)

    def __enter__(self) -> Self:
        for _ in range(self._count):
            engine = new_local_engine(self._settings, readable=self._readable, scratch=self._task.scratch)
            self._engines.append(engine)
            self._idle.put(engine)
        return self

    def __exit__(self, *_: object) -> None:
        # What is still at work was given up, as by Ctrl-C: closing its engine ends it.
        self._pool.shutdown(wait=False, cancel_futures=True)
        for engine in self._engines:
            engine.close()
        self._pool.shutdown()

    def run(self, inputs: Iterable[Input]) -> Iterator[tuple[Input, Rendering | ImageProcessorError]]:
        """Each input with its rendering or its error, as they finish."""
        futures = {self._pool.submit(self._process, given): given for given in inputs}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _process(self, given: Input) -> Rendering | ImageProcessorError:
        engine = self._idle.get()
        try:
            return process_one(engine, given, self._task)
        except ImageProcessorError as error:
            return error
        finally:
            self._idle.put(engine)


def process_one(engine: Engine, given: Input, task: Task) -> Rendering:
    """Make the variants of one input; each appears in the output folder whole, or not at all."""
    image_format, header = check_file(given.path, task.preset.accepts, task.limits)
    check_limits(header, task.preset.limits)
    try:
        with tempfile.TemporaryDirectory(dir=task.scratch) as folder:
            request = RenderRequest(
                source=given.path,
                source_format=image_format,
                pipeline=task.preset.pipeline,
                output_directory=Path(folder),
                limits=task.limits,
            )
            rendering = engine.render(request, deadline_seconds=deadline_seconds(header))
            for variant in rendering.variants:
                name = f"{given.name}_{variant.name}.{variant.format.extension}"
                variant.path.replace(task.output / name)
    except OSError as error:
        raise StorageError(f"The variants cannot be written: {error.strerror}.") from error
    return rendering


def find_inputs(paths: Iterable[Path]) -> Iterator[Input]:
    """
    The files that are named, and all files in the folders that are named; equal names get a number.

    Raises InvalidRequestError for a path that does not exist.
    """
    taken: set[str] = set()
    for path in _files(paths):
        name = next(name for name in _names(path.stem) if name not in taken)
        taken.add(name)
        yield Input(path=path.resolve(), name=name)


def _names(stem: str) -> Iterator[str]:
    yield stem
    for number in itertools.count(2):
        yield f"{stem}-{number}"


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
        elif path.is_file():
            yield path
        else:
            raise InvalidRequestError(f"There is no file {path}.")


def _preset(settings: Settings, name: str) -> Preset:
    if name not in settings.presets:
        raise InvalidRequestError(
            f"There is no preset {name!r}; there are {', '.join(sorted(settings.presets))}."
        )
    return settings.presets[name]


@contextmanager
def _scratch_folder(output: Path) -> Iterator[Path]:
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=output.resolve(), prefix=".making-")
    except OSError as error:
        raise ConfigurationError(f"The folder {output} cannot be written to: {error.strerror}.") from error
    with folder as path:
        yield Path(path)


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
    )


def _summary(rendering: Rendering) -> str:
    sizes = ", ".join(f"{v.name} {v.width}x{v.height} {v.size_bytes:,} bytes" for v in rendering.variants)
    return f"{rendering.width}x{rendering.height}, {rendering.dominant_color}: {sizes}"


def _plain(text: object) -> str:
    """As it is printed: a name with brackets is no markup."""
    return escape(str(text))


def _tell(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
