"""What the parent may not know, and what it does not believe of an inspection."""

import subprocess
import sys

import pytest

from image_processor.engine import wire
from image_processor.engine.base import InspectRequest, RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.engine.sandbox import describe
from image_processor.errors import EngineCrashedError, EngineError, EngineTimeoutError
from image_processor.pipeline import ImageFormat, Limits
from image_processor.testing import sample_images
from pictures import pipeline_of

SCRIPT = """
import sys
import {module}
print(*sorted(name for name in sys.modules if name.split(".")[0] in {{"pyvips", "_libvips", "cffi"}}))
"""


def imported_beside(module):
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_the_isolated_engine_does_not_import_pyvips():
    assert imported_beside("image_processor.engine.isolate") == []


def test_the_fake_engine_does_not_import_pyvips():
    assert imported_beside("image_processor.testing.fake_engine") == []


def test_the_engine_itself_does():
    assert "pyvips" in imported_beside("image_processor.engine.vips.engine")


READY = wire.frame(wire.Ready(protections=describe()))
PRELUDE = f"""
import json, os, struct, sys, time
def say(body):
    os.write(1, struct.pack(">I", len(body)) + body)
def hear():
    (length,) = struct.unpack(">I", sys.stdin.buffer.read(4))
    return json.loads(sys.stdin.buffer.read(length))
os.write(1, {READY!r})
asked = hear()
rendering = dict(width=1, height=1, dominant_color="#000000", variants=[])
RENDERED = json.dumps(dict(kind="rendered", rendering=rendering)).encode()
size = dict(size_bytes=SIZE, width=640, height=480)
facts = dict(size, format="jpeg", media_type="image/jpeg", color_space="rgb")
def tell(**lies):
    say(json.dumps(dict(kind="inspected", facts=dict(facts, **lies))).encode())
"""


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "original"
    path.write_bytes(sample_images.photo())
    return InspectRequest(source=path, source_format=ImageFormat.JPEG, limits=Limits())


@pytest.fixture
def engine_on(tmp_path, original):
    """An engine whose child is a script."""
    started = []

    def start(script):
        prelude = PRELUDE.replace("SIZE", str(original.source.stat().st_size))
        command = (sys.executable, "-I", "-c", f"{prelude}{script}\ntime.sleep(60)")
        started.append(IsolatedEngine(readable=(tmp_path,), writable=(tmp_path,), command=command))
        return started[-1]

    yield start
    for engine in started:
        engine.close()


def test_a_child_is_told_that_it_is_to_inspect_and_believed_where_it_can_be_true(engine_on, original):
    child = engine_on("tell(width=641 if asked['kind'] == 'inspect' else 0)")
    facts = child.inspect(original, deadline_seconds=10)
    assert (facts.width, facts.height) == (641, 480)


@pytest.mark.parametrize(
    "lie",
    [
        "tell(width=-1)",
        "tell(width=30_001)",
        "tell(frames=10**6)",
        "tell(size_bytes=7)",
        "tell(format='png', media_type='image/png')",
        "tell(media_type='text/html')",
        "tell(icc_profile='a\\x1b[31mb')",
        "tell(icc_profile='x' * 201)",
        "tell(exif=dict(camera_make='a\\nb'))",
        "tell(exif=dict(taken_at='<script>alert(1)</script>'))",
        "tell(exif=dict(has_gps=True, gps=dict(latitude=1, longitude=1)))",
        "tell(dominant_color='#000000')",
        "tell(palette=[dict(color='#000000', share=1)])",
        "tell(more=1)",
        "say(b'{}')",
        "say(RENDERED)",
    ],
)
def test_facts_that_cannot_be_true_are_refused(engine_on, original, lie):
    engine = engine_on(lie)
    with pytest.raises(EngineError, match="refused"):
        engine.inspect(original, deadline_seconds=10)
    assert engine.child_pid is None


def test_an_inspection_is_stopped_at_its_deadline(engine_on, original):
    engine = engine_on("")
    with pytest.raises(EngineTimeoutError):
        engine.inspect(original, deadline_seconds=0.5)
    assert engine.child_pid is None


def test_a_child_that_dies_over_an_inspection_is_an_error_of_its_own(engine_on, original):
    with pytest.raises(EngineCrashedError, match="exited with 3"):
        engine_on("os._exit(3)").inspect(original, deadline_seconds=10)


def test_a_rendering_is_not_taken_from_an_inspection(engine_on, original, tmp_path):
    request = RenderRequest(
        source=original.source,
        source_format=ImageFormat.JPEG,
        pipeline=pipeline_of(),
        output_directory=tmp_path,
        limits=Limits(),
    )
    with pytest.raises(EngineError, match="answers what was not asked"):
        engine_on("tell()").render(request, deadline_seconds=10)
