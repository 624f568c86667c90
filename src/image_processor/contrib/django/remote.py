"""Remote: variants that a running Image Processor makes, ordered and fetched. What calls back: `views`."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from image_processor.client import ImageProcessorClient, Job
from image_processor.client import Result as Made
from image_processor.client.retries import NEVER
from image_processor.contrib.django.attempts import Attempts, attempts
from image_processor.contrib.django.completion import Waiting
from image_processor.contrib.django.conf import conf
from image_processor.contrib.django.production import Stored, source_beside, store_picture
from image_processor.contrib.django.queues import Pending
from image_processor.contrib.django.rendering import GRAY, Picture
from image_processor.errors import (
    ConfigurationError,
    CorruptImageError,
    FileTooLargeError,
    ImageTooComplexError,
    ImageTooLargeError,
    ImageTooSmallError,
    NotFoundError,
    RejectedError,
    StorageDamageError,
    UnsupportedFormatError,
)
from image_processor.intake.sniff import SNIFF_BYTES, sniff
from image_processor.pipeline import ImageFormat
from image_processor.result import Result

logger = logging.getLogger("image_processor.django")
BUCKET = "django"
TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 3.0
"""A request of the project may wait for that."""
MAX_VARIANTS, MAX_MADE_BYTES, MAX_SIDE = 50, 256 * 1024 * 1024, 65_535
"""Of one picture: a pipeline has no more variants, a row no longer sides; all bytes are in memory at once."""
MADE = frozenset(
    {
        ImageFormat.JPEG,
        ImageFormat.PNG,
        ImageFormat.WEBP,
        ImageFormat.AVIF,
        ImageFormat.GIF,
        ImageFormat.TIFF,
    }
)
"""What a preset can make: nothing that a browser would run."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
FAULTS_OF_PICTURES: tuple[type[RejectedError], ...] = (
    UnsupportedFormatError,
    CorruptImageError,
    FileTooLargeError,
    ImageTooLargeError,
    ImageTooSmallError,
    ImageTooComplexError,
)
"""What is wrong with an upload; all else that a service refuses is wrong with the project's settings."""
FAULTS = {kind.code: kind for kind in FAULTS_OF_PICTURES}


def submit(pending: Pending) -> None:
    """
    Send a picture that waits to the service, which answers through the webhook. Again: the same job.

    Raises ImageProcessorError, after all tries: the row goes on waiting.
    """
    waiting = Waiting.find(pending)
    if waiting is None:
        return
    try:
        job = _upload(waiting)
    except FAULTS_OF_PICTURES as error:
        waiting.refuse(error)
    except FileNotFoundError:
        waiting.refuse(NotFoundError("The upload is gone."))
    else:
        waiting.note_job(job)


def finish(pending: Pending) -> bool:
    """
    Give a row that waits what the service has made by now; order it where it was not, or was lost.

    False where the variants are not there yet, or nobody waits for them. Raises ImageProcessorError.
    """
    waiting = Waiting.find(pending)
    if waiting is None:
        return False
    if waiting.details.job is None:
        submit(pending)
        return False
    with service() as client:
        try:
            job = client.job(waiting.details.job)
        except NotFoundError:
            waiting.note_job(_send(client, waiting, new=True))
            return False
        if job.status == "failed" and job.error_code not in FAULTS:
            client.retry(job.job_id)
            return False
        return _settle(client, waiting, job)


def collect(job_id: str) -> bool:
    """
    What a job of the service made becomes a row's; False where no row waits for it, or nothing was made.

    Raises ImageProcessorError: the service, or the storage, failed; the row goes on waiting.
    """
    with service() as client:
        try:
            job = client.job(job_id)
        except NotFoundError:
            return False
        pending = _pending_of(job)
        waiting = Waiting.find(pending) if pending else None
        return waiting is not None and _settle(client, waiting, job)


@contextmanager
def service() -> Iterator[ImageProcessorClient]:
    """A client for the project's service, which does not try again by itself: `attempts` does."""
    chosen = conf()
    if not (chosen.service_url and chosen.service_token):
        raise ImproperlyConfigured("IMAGE_PROCESSOR needs SERVICE_URL and SERVICE_TOKEN.")
    token = chosen.service_token.get_secret_value()
    with ImageProcessorClient(
        chosen.service_url, token, timeout=TIMEOUT_SECONDS, connect_timeout=CONNECT_SECONDS, retries=NEVER
    ) as client:
        yield client


def callback_url() -> str | None:
    """Where the service reaches the webhook; None where the project does not have all that it takes."""
    chosen = conf()
    if not (chosen.base_url and chosen.service_webhook_secret):
        return None
    try:
        return chosen.base_url.rstrip("/") + reverse("image_processor:webhook")
    except NoReverseMatch:
        return None


def _upload(waiting: Waiting) -> str:
    with service() as client:
        return _send(client, waiting)


def _send(client: ImageProcessorClient, waiting: Waiting, *, new: bool = False) -> str:
    """The job. A copy of a row has the same source and is another order; `new` is one that was lost."""
    preset = waiting.field.variants
    if not isinstance(preset, str):
        raise ConfigurationError(f"The service cannot know the preset of {waiting.field}: it has no name.")
    order = [preset, waiting.pending.as_dict(), waiting.details.job if new else None]
    upload = partial(
        client.upload,
        waiting.read_source(),
        bucket=BUCKET,
        preset=preset,
        metadata=waiting.pending.as_dict(),
        callback_url=callback_url(),
        idempotency_key=hashlib.sha256(json.dumps(order).encode()).hexdigest(),
    )
    return _attempts().run(upload).job_id


def _attempts() -> Attempts:
    """Of its own breaker: uploads are looked at here, which succeeds while the service is down."""
    return attempts(of="service")


def _pending_of(job: Job) -> Pending | None:
    """The row that a job is for, as its own order says; None for jobs that are not ours."""
    try:
        return Pending(**{str(name): str(value) for name, value in job.metadata.items()})
    except TypeError:
        return None


def _settle(client: ImageProcessorClient, waiting: Waiting, job: Job) -> bool:
    if job.status == "completed":
        return waiting.swap(_store(waiting, _fetch(client, waiting, job)))
    if job.status == "failed":
        sentence = job.error or "The picture was refused."
        if fault := FAULTS.get(job.error_code or ""):
            return waiting.refuse(fault(sentence))
        logger.error("The service could not make the variants of %s: %s", waiting.pending, sentence)
    return False


def _fetch(client: ImageProcessorClient, waiting: Waiting, job: Job) -> Picture:
    """All variants, as the service describes them. Raises StorageDamageError for what cannot be right."""
    result = _attempts().run(partial(client.result, job.job_id))
    if not _makes_sense(result):
        raise StorageDamageError("The service's answer does not describe a picture.")
    known = waiting.details
    size = result.metadata.original_dimensions
    variants: dict[str, Result] = {}
    for name, described in result.metadata.variants.items():
        data = _attempts().run(partial(client.download, job.image_id, name))
        image_format = sniff(data[:SNIFF_BYTES])
        if len(data) != described.size_bytes or image_format not in MADE or image_format != described.format:
            raise StorageDamageError("A variant did not come whole from the service.")
        variants[name] = Result(
            data=data,
            image_format=image_format,
            size=(described.width, described.height),
            source_size=(size.width, size.height),
            dominant_color=result.metadata.dominant_color,
        )
    return Picture(
        width=known.width or size.width,
        height=known.height or size.height,
        color=result.metadata.dominant_color or known.color or GRAY,
        thumbhash=known.thumbhash,
        variants=_in_order(variants, waiting),
    )


def _makes_sense(result: Made) -> bool:
    """What a broken service, or one that is not ours, says of its files is checked before one is fetched."""
    made = result.metadata
    sizes = [variant.size_bytes for variant in made.variants.values()]
    sides = [
        side
        for one in (made.original_dimensions, *made.variants.values())
        for side in (one.width, one.height)
    ]
    return (
        0 < len(sizes) <= MAX_VARIANTS
        and min(sizes) > 0
        and sum(sizes) <= MAX_MADE_BYTES
        and all(0 < side <= MAX_SIDE for side in sides)
        and all(_NAME.fullmatch(name) for name in made.variants)
        and _COLOR.fullmatch(made.dominant_color) is not None
    )


def _in_order(variants: dict[str, Result], waiting: Waiting) -> dict[str, Result]:
    """As the preset has them here, and then what only the service's preset has."""
    named = [variant.name for variant in waiting.field.preset.pipeline.variants if variant.name in variants]
    return {name: variants[name] for name in dict.fromkeys([*named, *variants])}


def _store(waiting: Waiting, picture: Picture) -> Stored:
    """With the upload beside it where it is kept, under the same beginning."""
    place = waiting.place
    return store_picture(
        picture,
        place,
        source_beside(waiting.read_source(), waiting.field.preset, place)
        if waiting.field.keep_source
        else {},
    )
