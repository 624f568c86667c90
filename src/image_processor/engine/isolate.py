"""IsolatedEngine: decodes in a child that is limited, watched and not believed. No pyvips in this process."""

import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from image_processor.engine import wire
from image_processor.engine.base import Facts, InspectRequest, OnProgress, Rendering, RenderRequest
from image_processor.engine.child import Child, ChildBabbleError, ChildEndedError, ChildTimeoutError
from image_processor.engine.claims import FalseClaimError, check_rendering, named_error
from image_processor.engine.fact_claims import check_facts
from image_processor.engine.sandbox import MIB, Protections
from image_processor.errors import (
    EngineCrashedError,
    EngineError,
    EngineTimeoutError,
    ImageProcessorError,
    ImageTooComplexError,
    InvalidRequestError,
)
from image_processor.telemetry import emit

MEMORY_BYTES = 3072 * MIB
"""
What the built-in presets admit takes at most 2740 MiB (VmData): WebP with alpha of 100 megapixels, written
anew as the original of `thumbnails`.
"""
RECYCLE_RSS_BYTES = 512 * MIB
"""A child that keeps more than this between two jobs is replaced."""
CPU_SECONDS_PER_SECOND = 2
"""Processor time allowed per second of the deadline; the kernel ends a child whose parent no longer can."""
STARTUP_SECONDS = 30.0
COMMAND = (sys.executable, "-I", "-m", "image_processor.engine.codec")
ENVIRONMENT: Mapping[str, str] = {
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",  # glibc's arenas fragment under libvips' threads
    "VIPS_BLOCK_UNTRUSTED": "1",
    "VIPS_CONCURRENCY": "1",
}
"""All that the child sees of the environment: nothing is handed down, so no secret is."""

_SAYS_OUT_OF_MEMORY = re.compile(
    r"memory allocation of \d+ bytes failed|failed to allocate \d+ bytes|bad_alloc"
    r"|insufficient memory|out of memory|MemoryError",
    re.IGNORECASE,
)
"""Last words of Rust, GLib, C++, libjpeg and Python, which end the process where there is no more memory."""

T = TypeVar("T")
Success = wire.Rendered | wire.Inspected
Reader = Callable[[Success], T]
"""What a job wants out of an answer; raises FalseClaimError where the answer does not hold it."""
IsAside = Callable[[bytes], bool]
"""Whether a body comes before the answer; raises FalseClaimError where it cannot be true."""


def _no_aside(_body: bytes) -> bool:
    return False


class _WornOutError(Exception):
    """Memory ran out in a child that had done other jobs: what they left may have been too much."""


class IsolatedEngine:
    """
    An engine whose decoder runs in a process of its own, started when needed, replaced when worn or broken.

    Jobs from several threads wait for each other; `interrupt` and `close` may come from any thread.

    Args:
        readable: directories that originals lie in. They exist when the child starts.
        writable: directories that output directories lie in. They exist when the child starts.
        memory_bytes: private memory of the child. What needs more is refused: ImageTooComplexError.
        max_jobs: renders and inspections after which the child is replaced.
        command: what to start instead of the codec; its arguments are added.
    """

    def __init__(
        self,
        *,
        readable: tuple[Path, ...],
        writable: tuple[Path, ...],
        memory_bytes: int = MEMORY_BYTES,
        max_jobs: int = 200,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._max_jobs = max_jobs
        self._command = (*command, *_arguments(readable, writable, memory_bytes))
        self._turn = threading.Lock()
        self._state = threading.Lock()
        """Guards the next four."""
        self._child: Child | None = None
        self._protections: Protections | None = None
        self._is_busy = False
        self._is_interrupted = False
        # The child dies with the thread that started it (PR_SET_PDEATHSIG): that thread is the engine's own.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codec-starter")

    @property
    def child_pid(self) -> int | None:
        """The process id of the child, where there is one."""
        child = self._child
        return child.pid if child else None

    def protections(self) -> Protections:
        """What the child has given up, as it found before its first job; starts it where there is none."""
        deadline = time.monotonic() + STARTUP_SECONDS
        with self._exclusive(deadline):
            self._ready_child(deadline)
        if self._protections is None:
            raise EngineError("The process that decodes did not say how it is protected.")
        return self._protections

    def render(
        self, request: RenderRequest, *, deadline_seconds: float, on_progress: OnProgress | None = None
    ) -> Rendering:
        """Make every variant of `request` in the child; raises what `Engine.render` says, and EngineError."""
        request = _absolute(request)
        job = wire.RenderJob(request=request, cpu_seconds=_cpu_seconds(deadline_seconds))
        new_reader = partial(_ProgressReader, _only_rising(on_progress) if on_progress else None)
        return self._do(job, deadline_seconds, partial(_rendering, request), new_reader)

    def inspect(self, request: InspectRequest, *, deadline_seconds: float) -> Facts:
        """Find out in the child what an original is; raises what `Engine.inspect` says, and EngineError."""
        request = request.model_copy(update={"source": request.source.absolute()})
        job = wire.InspectJob(request=request, cpu_seconds=_cpu_seconds(deadline_seconds))
        return self._do(job, deadline_seconds, partial(_facts, request))

    def interrupt(self) -> None:
        """Kill the child if it is at work; that job raises EngineCrashedError."""
        with self._state:
            if self._is_busy:
                self._is_interrupted = True
                if self._child:
                    self._child.kill()

    def close(self) -> None:
        """End the child and the thread that started it; a job that still runs is interrupted."""
        self.interrupt()
        with self._turn:
            self._discard()
            self._starter.shutdown()

    def _do(
        self,
        job: wire.RenderJob | wire.InspectJob,
        deadline_seconds: float,
        read: Reader[T],
        new_aside: Callable[[], IsAside] = lambda: _no_aside,
    ) -> T:
        deadline = time.monotonic() + deadline_seconds
        frame = _frame(job)

        def attempt() -> T:
            child = self._ready_child(deadline)
            return self._understand(child, self._ask(child, frame, deadline, new_aside()), read)

        with self._exclusive(deadline):
            try:
                return attempt()
            except _WornOutError:
                return attempt()

    @contextmanager
    def _exclusive(self, deadline: float) -> Iterator[None]:
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise EngineTimeoutError("The engine was busy with another image until the deadline.")
        try:
            with self._state:
                self._is_busy, self._is_interrupted = True, False
            yield
        finally:
            with self._state:
                self._is_busy = False
            if self._is_interrupted:
                self._discard()  # it may be dying behind its answer: the next job must not meet it
            self._turn.release()

    def _ready_child(self, deadline: float) -> Child:
        if self._child and (self._child.has_changed() or self._is_worn(self._child)):
            self._discard()
        return self._child or self._start(deadline)

    def _is_worn(self, child: Child) -> bool:
        return child.jobs >= self._max_jobs or child.rss_bytes() > RECYCLE_RSS_BYTES

    def _start(self, deadline: float) -> Child:
        child = self._starter.submit(Child, self._command, ENVIRONMENT).result()
        with self._state:
            self._child = child
            if self._is_interrupted:
                child.kill()
        body = self._ask(child, b"", deadline)
        try:
            self._protections = wire.Ready.model_validate_json(body).protections
        except ValidationError as error:
            raise self._disbelieve("its first words were not understood") from error
        return child

    def _ask(self, child: Child, frame: bytes, deadline: float, is_aside: IsAside = _no_aside) -> bytes:
        try:
            return child.ask(frame, deadline=deadline, is_aside=is_aside)
        except ChildTimeoutError as error:
            self._discard()
            raise EngineTimeoutError("The image was not done in time; the work on it was stopped.") from error
        except ChildEndedError as error:
            raise self._crash(child, self._discard()) from error
        except (ChildBabbleError, FalseClaimError) as error:
            raise self._disbelieve(str(error)) from error
        except BaseException:
            self._discard()
            raise

    def _understand(self, child: Child, body: bytes, read: Reader[T]) -> T:
        child.jobs += 1
        try:
            answer = wire.answers.validate_json(body)
            if not isinstance(answer, wire.Failed):
                return read(answer)
        except (ValidationError, FalseClaimError) as error:
            reason = str(error) if isinstance(error, FalseClaimError) else "it is not of the agreed form"
            raise self._disbelieve(reason) from error
        named = named_error(answer)
        if isinstance(named, EngineError):
            emit("engine.job.failed", error=named.message, stderr=child.stderr)
        raise named

    def _discard(self) -> int:
        """End the child; gives its exit code, or minus the signal it died of."""
        with self._state:
            child, self._child = self._child, None
        return child.end() if child else 0

    def _disbelieve(self, reason: str) -> EngineError:
        self._discard()
        emit("engine.answer.refused", reason=reason)
        return EngineError(f"The answer of the process that decodes was refused: {reason}.")

    def _crash(self, child: Child, code: int) -> ImageProcessorError | _WornOutError:
        is_out_of_memory = not self._is_interrupted and _ran_out_of_memory(child, code)
        cause = "it was interrupted" if self._is_interrupted else _cause(code)
        if is_out_of_memory:
            cause = f"its {self._memory_bytes // MIB} MiB of memory were not enough"
        emit("engine.child.crashed", pid=child.pid, cause=cause, jobs=child.jobs, stderr=child.stderr)
        if not is_out_of_memory:
            return EngineCrashedError(f"The process that decodes died: {cause}.")
        return _WornOutError(cause) if child.jobs else self._too_complex()

    def _too_complex(self) -> ImageTooComplexError:
        return ImageTooComplexError(
            f"The image is too complex: to process it takes more than the {self._memory_bytes // MIB} MiB "
            "of memory that one image may have here. With fewer pixels it takes less.",
        )


def _arguments(readable: tuple[Path, ...], writable: tuple[Path, ...], memory_bytes: int) -> tuple[str, ...]:
    reads = (part for path in readable for part in ("--read", str(path.absolute())))
    writes = (part for path in writable for part in ("--write", str(path.absolute())))
    return ("--parent", str(os.getpid()), "--memory", str(memory_bytes), *reads, *writes)


def _absolute(request: RenderRequest) -> RenderRequest:
    """The child has another working directory."""
    paths = {"source": request.source.absolute(), "output_directory": request.output_directory.absolute()}
    return request.model_copy(update=paths)


def _cpu_seconds(deadline_seconds: float) -> int:
    return max(1, math.ceil(deadline_seconds * CPU_SECONDS_PER_SECOND))


def _frame(job: wire.RenderJob | wire.InspectJob) -> bytes:
    try:
        return wire.frame(job)
    except ValueError as error:
        raise InvalidRequestError("The request is too long to be handed to the engine.") from error


def _ran_out_of_memory(child: Child, code: int) -> bool:
    return code == wire.EXIT_OUT_OF_MEMORY or bool(code and _SAYS_OUT_OF_MEMORY.search(child.stderr))


def _cause(code: int) -> str:
    return f"it exited with {code}" if code >= 0 else f"killed by {_signal_name(-code)}"


def _only_rising(on_progress: OnProgress) -> OnProgress:
    """A render that is begun anew is told of from where the first one ended."""
    told = 0.0

    def tell(share: float) -> None:
        nonlocal told
        if share > told:
            told = share
            on_progress(share)

    return tell


class _ProgressReader:
    """Takes the progress of one render out of what the child says; as it has to grow, its end is certain."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._parts = 0

    def __call__(self, body: bytes) -> bool:
        if len(body) > wire.MAX_PROGRESS_BYTES:
            return False
        try:
            parts = wire.Progress.model_validate_json(body).parts
        except ValidationError:  # an answer, or none: that is judged where answers are
            return False
        if parts <= self._parts:
            raise FalseClaimError("its progress does not grow")
        self._parts = parts
        if self._on_progress:
            self._on_progress(parts / wire.PROGRESS_PARTS)
        return True


def _rendering(request: RenderRequest, answer: Success) -> Rendering:
    if not isinstance(answer, wire.Rendered):
        raise FalseClaimError("it answers what was not asked")
    check_rendering(answer.rendering, request)
    return answer.rendering


def _facts(request: InspectRequest, answer: Success) -> Facts:
    if not isinstance(answer, wire.Inspected):
        raise FalseClaimError("it answers what was not asked")
    check_facts(answer.facts, request)
    return answer.facts


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
