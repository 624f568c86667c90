"""Queues: where variants are made that are not made in the request. What is made: `completion`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from django.db import DEFAULT_DB_ALIAS

from image_processor.contrib.django.conf import MadeIn, conf


@dataclass(frozen=True)
class Pending:
    """One picture that waits for its variants, in words that any queue can carry."""

    model: str
    """`app_label.ModelName`."""
    pk: str
    field: str
    source: str
    """The name of the upload in the field's storage; a row that names another is left alone."""
    using: str = DEFAULT_DB_ALIAS
    """The database that the row is in: a replica may not have it yet."""

    def as_dict(self) -> dict[str, str]:
        """As queues carry it."""
        return asdict(self)


def enqueue(pending: Pending) -> None:
    """Order variants where the project makes them; raises what its queue raises."""
    QUEUES[conf().variants](pending)


def finish(pending: Pending) -> bool:
    """
    Make the variants that a row waits for, here and now; those of the service are fetched, or ordered again.

    False where they are not there yet, or nobody waits for them. Raises ImageProcessorError.
    """
    if conf().variants is MadeIn.SERVICE:
        from image_processor.contrib.django import remote  # noqa: PLC0415 - an extra

        return remote.finish(pending)
    from image_processor.contrib.django.completion import complete  # noqa: PLC0415 - it knows fields, as we are known

    return complete(pending)


def _in_request(pending: Pending) -> None:
    from image_processor.contrib.django.completion import complete  # noqa: PLC0415 - it knows fields, as we are known

    complete(pending)


def _in_tasks(pending: Pending) -> None:
    from image_processor.contrib.django.django_tasks import complete_picture  # noqa: PLC0415 - an optional part

    complete_picture.enqueue(**pending.as_dict())


def _in_celery(pending: Pending) -> None:
    from image_processor.contrib.django.celery_tasks import complete_picture  # noqa: PLC0415 - an extra

    complete_picture.delay(**pending.as_dict())


def _in_service(pending: Pending) -> None:
    from image_processor.contrib.django.remote import submit  # noqa: PLC0415 - an extra

    submit(pending)


QUEUES: Mapping[MadeIn, Callable[[Pending], None]] = {
    MadeIn.REQUEST: _in_request,
    MadeIn.TASKS: _in_tasks,
    MadeIn.CELERY: _in_celery,
    MadeIn.SERVICE: _in_service,
}
