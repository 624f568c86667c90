"""The child of an isolated engine: gives up its rights, then decodes. Run with `python -I -m`."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from image_processor.engine import sandbox, wire
from image_processor.engine.base import Engine, OnProgress
from image_processor.errors import EngineError, ImageProcessorError
from image_processor.pipeline.value import Value


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve jobs on standard input and output until the input ends."""
    requests, answers = _take_over_standard_streams()
    protections = sandbox.protect(_policy(arguments))
    # Only now: libvips' threads and whatever its libraries do at start are under the policy too.
    from image_processor.engine.vips.engine import VipsEngine  # noqa: PLC0415

    _send(answers, wire.Ready(protections=protections))
    _serve(VipsEngine(), requests, answers)


def _take_over_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """What a library prints must not be taken for an answer: it goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def _policy(arguments: Sequence[str] | None) -> sandbox.Policy:
    parser = argparse.ArgumentParser(prog="image_processor.engine.codec", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="end together with this process")
    parser.add_argument("--memory", type=int, required=True, help="bytes of private memory")
    parser.add_argument("--read", type=Path, action="append", default=[], help="a directory to read from")
    parser.add_argument("--write", type=Path, action="append", default=[], help="a directory to write into")
    parsed = parser.parse_args(arguments)
    return sandbox.Policy(
        parent_pid=parsed.parent,
        memory_bytes=parsed.memory,
        readable=tuple(parsed.read),
        writable=tuple(parsed.write),
    )


def _serve(engine: Engine, requests: BinaryIO, answers: BinaryIO) -> None:
    while (body := _receive(requests)) is not None:
        _send(answers, _answer(engine, wire.jobs.validate_json(body), _progress(answers)))


def _progress(answers: BinaryIO) -> OnProgress:
    """Tells the parent of one render, each time that another part of it is done."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        parts = int(share * wire.PROGRESS_PARTS)
        if parts > told:
            told = parts
            _send(answers, wire.Progress(parts=parts))

    return tell


def _answer(engine: Engine, job: wire.RenderJob | wire.InspectJob, on_progress: OnProgress) -> Value:
    sandbox.limit_cpu(job.cpu_seconds)
    try:
        return _work(engine, job, on_progress)
    except MemoryError:
        os._exit(wire.EXIT_OUT_OF_MEMORY)
    except ImageProcessorError as error:
        return _failed(error.code, error.message)
    except Exception as error:  # noqa: BLE001 - the parent decides; this process may well go on
        traceback.print_exc()
        return _failed(EngineError.code, f"The engine failed: {type(error).__name__}.")


def _work(engine: Engine, job: wire.RenderJob | wire.InspectJob, on_progress: OnProgress) -> Value:
    seconds = job.cpu_seconds
    if isinstance(job, wire.InspectJob):
        return wire.Inspected(facts=engine.inspect(job.request, deadline_seconds=seconds))
    return wire.Rendered(
        rendering=engine.render(job.request, deadline_seconds=seconds, on_progress=on_progress)
    )


def _failed(code: str, message: str) -> wire.Failed:
    return wire.Failed(code=code, message=message[: wire.MAX_MESSAGE_LENGTH])


def _receive(requests: BinaryIO) -> bytes | None:
    prefix = requests.read(wire.LENGTH_BYTES)
    return requests.read(wire.body_length(prefix)) if len(prefix) == wire.LENGTH_BYTES else None


def _send(answers: BinaryIO, value: Value) -> None:
    answers.write(wire.frame(value))
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit("the process that started this one no longer listens")
