"""A child's answer is held against the plan and the disk; each way to lie has its test."""

import os

import pytest

from image_processor.engine import wire
from image_processor.engine.base import RenderRequest
from image_processor.engine.claims import FalseClaimError, check_rendering, named_error
from image_processor.errors import CorruptImageError, EngineError
from image_processor.pipeline import ImageFormat, Limits, Pipeline, Resize, Variant, WebpOutput
from image_processor.testing import sample_images
from image_processor.testing.fake_engine import FakeEngine

PIPELINE = Pipeline(
    variants=(
        Variant(name="small", operations=(Resize(width=64),), output=WebpOutput()),
        Variant(name="large", output=WebpOutput()),
    )
)


@pytest.fixture
def request_(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(sample_images.photo())
    output = tmp_path / "out"
    output.mkdir()
    return RenderRequest(
        source=source,
        source_format=ImageFormat.JPEG,
        pipeline=PIPELINE,
        output_directory=output,
        limits=Limits(),
    )


@pytest.fixture
def honest(request_):
    return FakeEngine().render(request_, deadline_seconds=1)


def refused(rendering, request_):
    with pytest.raises(FalseClaimError) as caught:
        check_rendering(rendering, request_)
    return str(caught.value)


def with_first(rendering, **changes):
    first, *rest = rendering.variants
    return rendering.model_copy(update={"variants": (first.model_copy(update=changes), *rest)})


def test_the_truth_is_believed(honest, request_):
    check_rendering(honest, request_)


@pytest.mark.parametrize("color", ["", "red", "#12345", "#1234567", "#abcdef", "#12345G", "<script>"])
def test_a_color_that_is_none(honest, request_, color):
    assert "colour" in refused(honest.model_copy(update={"dominant_color": color}), request_)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"height": -1},
        {"width": 2**40},
        {"frames": 0},
        {"frames": 301},
        {"width": 30_001},
        {"width": 641},
    ],
)
def test_an_original_that_cannot_be(honest, request_, changes):
    refused(honest.model_copy(update=changes), request_)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "large"},
        {"format": ImageFormat.PNG},
        {"width": 65},
        {"frames": 2},
        {"size_bytes": 0},
        {"size_bytes": 10**9},
    ],
)
def test_a_variant_that_is_not_as_planned(honest, request_, changes):
    refused(with_first(honest, **changes), request_)


def test_a_missing_and_a_surplus_variant(honest, request_):
    assert "1 variants instead of 2" in refused(
        honest.model_copy(update={"variants": honest.variants[:1]}), request_
    )
    twice = (*honest.variants, honest.variants[0])
    assert "3 variants instead of 2" in refused(honest.model_copy(update={"variants": twice}), request_)


def test_a_file_elsewhere(honest, request_, tmp_path):
    secret = tmp_path / "secret.webp"
    secret.write_bytes(honest.variants[0].path.read_bytes())
    refused(with_first(honest, path=secret), request_)
    detour = request_.output_directory / ".." / "secret.webp"
    refused(with_first(honest, path=detour), request_)


def test_a_link_to_a_file_elsewhere(honest, request_, tmp_path):
    first = honest.variants[0]
    secret = first.path.rename(tmp_path / "secret.webp")
    first.path.symlink_to(secret)
    assert "no plain file" in refused(honest, request_)
    first.path.unlink()
    os.link(secret, first.path)
    assert "no plain file" in refused(honest, request_)


def test_a_folder_or_a_pipe_in_the_place_of_a_file(honest, request_):
    path = honest.variants[0].path
    path.unlink()
    assert "not there" in refused(honest, request_)
    path.mkdir()
    assert "no plain file" in refused(honest, request_)
    path.rmdir()
    os.mkfifo(path)
    assert "no plain file" in refused(honest, request_)


def test_errors_keep_their_class():
    error = named_error(wire.Failed(code="corrupt_image", message="Cut off."))
    assert (type(error), error.message) == (CorruptImageError, "Cut off.")


@pytest.mark.parametrize("code", ["not_authenticated", "rate_limited", "internal_error", "", "nonsense"])
def test_errors_that_are_no_business_of_a_decoder_become_engine_errors(code):
    assert type(named_error(wire.Failed(code=code, message="x"))) is EngineError


def test_a_message_cannot_steer_a_terminal_or_a_log():
    error = named_error(wire.Failed(code="corrupt_image", message="a\n\x1b[31mb\x00"))
    assert error.message == "a  [31mb "
