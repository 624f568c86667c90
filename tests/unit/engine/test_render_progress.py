"""Progress from a codec child: what an honest one says, and what is not taken from one that lies."""

import sys
import time
from itertools import pairwise

import pytest

from image_processor.engine import wire
from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.engine.sandbox import describe
from image_processor.engine.vips.engine import VipsEngine
from image_processor.errors import CorruptImageError, EngineError, EngineTimeoutError
from image_processor.pipeline import (
    ImageFormat,
    JpegOutput,
    Limits,
    Pipeline,
    Resize,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images

READY = wire.frame(wire.Ready(protections=describe()))
PRELUDE = f"""
import json, os, struct, sys, time
def say(body):
    os.write(1, struct.pack(">I", len(body)) + body)
def at(parts, **more):
    say(json.dumps(dict(kind="progress", parts=parts, **more)).encode())
def fail():
    say(json.dumps(dict(kind="failed", code="corrupt_image", message="Cut off.")).encode())
os.write(1, {READY!r})
(length,) = struct.unpack(">I", sys.stdin.buffer.read(4))
sys.stdin.buffer.read(length)
"""
REFUSED = "The answer of the process that decodes was refused"


def variants(count, width=64):
    sizes = [Resize(width=width + number) for number in range(count)]
    return Pipeline(
        variants=tuple(
            Variant(name=f"v{number}", operations=(size,), output=WebpOutput())
            for number, size in enumerate(sizes)
        )
    )


@pytest.fixture
def request_of(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "original").write_bytes(sample_images.photo(320, 240))

    def request_of(pipeline):
        return RenderRequest(
            source=tmp_path / "original",
            source_format=ImageFormat.JPEG,
            pipeline=pipeline,
            output_directory=tmp_path / "out",
            limits=Limits(),
        )

    return request_of


@pytest.fixture
def engine_on(tmp_path):
    """An engine whose child is a script."""
    started = []

    def start(script, *, ends=True):
        end = "" if ends else "time.sleep(60)"
        command = (sys.executable, "-I", "-c", f"{PRELUDE}{script}\n{end}")
        started.append(IsolatedEngine(readable=(tmp_path,), writable=(tmp_path,), command=command))
        return started[-1]

    yield start
    for engine in started:
        engine.close()


@pytest.mark.slow
def test_a_real_child_tells_of_its_progress_and_of_each_render_anew(tmp_path, request_of):
    engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",))
    try:
        for _ in range(2):
            told = []
            engine.render(request_of(variants(20)), deadline_seconds=60, on_progress=told.append)
            assert len(told) > 10
            assert all(earlier < later for earlier, later in pairwise(told))
            assert told[0] > 0
            assert told[-1] == 1.0
            for written in (tmp_path / "out").iterdir():
                written.unlink()
    finally:
        engine.close()


def test_larger_variants_are_a_larger_share(request_of):
    told = []
    pipeline = Pipeline(
        variants=(
            Variant(name="large", output=JpegOutput()),
            Variant(name="small", operations=(Resize(width=32),), output=JpegOutput()),
        )
    )
    VipsEngine().render(request_of(pipeline), deadline_seconds=60, on_progress=told.append)
    decoded, large, small = told
    assert decoded == pytest.approx(1 / 11, abs=0.01)
    assert large == pytest.approx(0.99, abs=0.01)
    assert small == 1.0


def test_progress_is_told_before_the_answer_is_there(engine_on, request_of):
    """The child goes on only once its parent has written what it was told."""
    flag = request_of(variants(1)).output_directory / "told"
    engine = engine_on(f"at(10)\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)\nat(50)\nfail()")
    told = []

    def tell(share):
        told.append(share)
        flag.touch()

    with pytest.raises(CorruptImageError):
        engine.render(request_of(variants(1)), deadline_seconds=10, on_progress=tell)
    assert told == [0.2, 1.0]


def test_nobody_has_to_listen(engine_on, request_of):
    with pytest.raises(CorruptImageError):
        engine_on("at(10); fail()").render(request_of(variants(1)), deadline_seconds=10)


@pytest.mark.parametrize(
    "lie",
    [
        "at(10); at(10)",
        "at(10); at(9)",
        "at(0)",
        "at(51)",
        "at(-1)",
        "at(1.5)",
        "at('10')",
        "at(True)",
        "at(None)",
        "at(10**30)",
        "at(float('nan'))",
        "at(10, more=1)",
        'say(b\'{"kind": "progress", "parts": 10}\' + b\' \' * 100)',
        "for _ in range(10**6): at(1)",
        "at(10); say(b'')",
    ],
)
def test_progress_that_cannot_be_true_is_refused(engine_on, request_of, lie):
    engine, told = engine_on(lie, ends=False), []
    with pytest.raises(EngineError, match=REFUSED):
        engine.render(request_of(variants(1)), deadline_seconds=10, on_progress=told.append)
    assert len(told) <= 1
    assert engine.child_pid is None


def test_there_are_no_more_frames_than_parts(engine_on, request_of):
    engine, told = engine_on("for number in range(1, 10**6): at(number)"), []
    with pytest.raises(EngineError, match=REFUSED):
        engine.render(request_of(variants(1)), deadline_seconds=10, on_progress=told.append)
    assert len(told) == wire.PROGRESS_PARTS


def test_progress_buys_no_time(engine_on, request_of):
    engine = engine_on("for number in range(1, 51): at(number); time.sleep(0.1)", ends=False)
    started = time.monotonic()
    with pytest.raises(EngineTimeoutError):
        engine.render(request_of(variants(1)), deadline_seconds=0.7, on_progress=lambda _: None)
    assert time.monotonic() - started < 4


def test_a_listener_that_fails_costs_the_child(engine_on, request_of):
    """It is in the middle of a render that nobody waits for: the next one gets another child."""

    def fail(_share):
        raise ZeroDivisionError

    engine = engine_on("at(10)", ends=False)
    with pytest.raises(ZeroDivisionError):
        engine.render(request_of(variants(1)), deadline_seconds=10, on_progress=fail)
    assert engine.child_pid is None


def test_the_longest_progress_fits_into_its_bound():
    framed = wire.frame(wire.Progress(parts=wire.PROGRESS_PARTS))
    assert len(framed) - wire.LENGTH_BYTES <= wire.MAX_PROGRESS_BYTES
