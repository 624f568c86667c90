"""The task of `django.tasks`: of Django 6, or of the package for those before. The work: `completion`."""

from typing import TYPE_CHECKING

from image_processor.contrib.django.completion import complete
from image_processor.contrib.django.queues import Pending

if TYPE_CHECKING:
    from django_tasks import task
else:
    try:
        from django.tasks import task
    except ImportError:
        from django_tasks import task


@task()
def complete_picture(**pending: str) -> bool:
    """
    Make the variants of one picture; False where nobody waits for them any more.

    Raises ImageProcessorError for failures of ours, after all tries: `image_processor_rebuild --pending`
    makes what is left.
    """
    return complete(Pending(**pending))
