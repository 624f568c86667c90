"""What the fake engine offers beyond the contract: to be held, released, interrupted and to fail."""

import threading

import pytest

from image_processor.engine.base import InspectRequest
from image_processor.engine.fact_claims import check_facts
from image_processor.errors import EngineCrashedError, EngineTimeoutError, StorageFullError
from image_processor.pipeline import ImageFormat, Limits
from image_processor.testing import sample_images
from image_processor.testing.fake_engine import FakeEngine
from pictures import pipeline_of, render


def in_thread(folder, engine, outcomes):
    def run():
        try:
            outcomes.append(render(folder, sample_images.png(), pipeline_of(), "png", engine))
        except EngineCrashedError as error:
            outcomes.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert engine.has_started.wait(10)
    return thread


def test_raises_the_error_it_was_given(tmp_path):
    engine = FakeEngine(error=StorageFullError("No room."))
    with pytest.raises(StorageFullError, match="No room"):
        render(tmp_path, sample_images.png(), pipeline_of(), "png", engine)
    assert len(engine.requests) == 1


def test_a_held_render_goes_on_when_released(tmp_path):
    engine, outcomes = FakeEngine(is_held=True), []
    thread = in_thread(tmp_path, engine, outcomes)
    assert outcomes == []
    engine.release()
    thread.join(10)
    assert outcomes[0].width == 320


def test_a_held_render_can_be_interrupted(tmp_path):
    engine, outcomes = FakeEngine(is_held=True), []
    thread = in_thread(tmp_path, engine, outcomes)
    engine.interrupt()
    thread.join(10)
    assert isinstance(outcomes[0], EngineCrashedError)


def test_a_held_render_keeps_its_deadline(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(sample_images.png())
    engine = FakeEngine(is_held=True)
    with pytest.raises(EngineTimeoutError):
        engine._wait_for_release(0.01)


def test_inspections_are_noted_held_and_refused_as_renders_are(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(sample_images.png())
    request = InspectRequest(source=source, source_format=ImageFormat.PNG, limits=Limits())
    engine = FakeEngine(error=StorageFullError("No room."))
    with pytest.raises(StorageFullError):
        engine.inspect(request, deadline_seconds=1)
    assert engine.requests == [request]
    with pytest.raises(EngineTimeoutError):
        FakeEngine(is_held=True).inspect(request, deadline_seconds=0.01)


def test_what_it_makes_up_passes_for_true(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(sample_images.photo(320, 240, orientation=6))
    wanted = {"dominant_color": True, "palette": 2, "blurhash": True, "thumbhash": True}
    request = InspectRequest(source=source, source_format=ImageFormat.JPEG, limits=Limits(), **wanted)
    facts = FakeEngine().inspect(request, deadline_seconds=1)
    check_facts(facts, request)
    assert (facts.width, facts.height) == (320, 240)
