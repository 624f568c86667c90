"""Sample uploads and results, for the tests of the jobs and for the processes that they start."""

from image_processor.jobs import Facts, NewJob, RateLimit, StoredVariant
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat

UNLIMITED = RateLimit(max_uploads=0)
WEB = BUILTIN_PRESETS["web"]


def an_upload(**fields):
    given = {
        "user_id": "ada",
        "bucket": "holiday",
        "preset": "web",
        "pipeline": WEB.pipeline,
        "key_template": WEB.key_template,
        "source_format": ImageFormat.JPEG,
        "source_bytes": 2_345_678,
        "sha256": "c0ffee" * 10 + "abcd",
        "staging_path": "staged.jpg",
        "metadata": {"trip": "Lisbon"},
    }
    return NewJob(**(given | fields))


def some_facts():
    variant = StoredVariant(
        key="holiday/processed/thumbnail/1_thumbnail.webp",
        width=150,
        height=200,
        format=ImageFormat.WEBP,
        size_bytes=12_453,
        sha256="ab" * 32,
        content_type="image/webp",
    )
    return Facts(width=3024, height=4032, dominant_color="#3A5F8C", variants={"thumbnail": variant})
