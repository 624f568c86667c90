"""The task of Celery, in whichever app the project has. The work: `completion`."""

from typing import Any

from celery import shared_task
from django.db import Error as DatabaseFailure

from image_processor.contrib.django.completion import complete
from image_processor.contrib.django.queues import Pending
from image_processor.errors import ImageProcessorError

PAUSES_SECONDS = (30, 120, 600, 3600)
"""Before it is tried again; then the row waits for `image_processor_rebuild --pending`."""


@shared_task(  # type: ignore[untyped-decorator]
    name="image_processor.complete_picture",
    bind=True,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    max_retries=len(PAUSES_SECONDS),
)
def complete_picture(self: Any, **pending: str) -> bool:
    """
    Make the variants of one picture; False where nobody waits for them any more.

    A worker that dies is replaced by another one: the order is only taken off the queue once it is done.
    """
    try:
        return complete(Pending(**pending))
    except (ImageProcessorError, DatabaseFailure) as error:
        tried = min(self.request.retries, len(PAUSES_SECONDS) - 1)
        raise self.retry(exc=error, countdown=PAUSES_SECONDS[tried]) from error
