"""The view that the service calls back. What a callback leads to: `remote`."""

import logging
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from image_processor.contrib.django.conf import conf
from image_processor.contrib.django.remote import collect
from image_processor.errors import AuthenticationError, ImageProcessorError
from image_processor.webhooks import verify

logger = logging.getLogger("image_processor.django")
MAX_BODY_BYTES = 64 * 1024
"""An event has a kilobyte or two, with the addresses of all variants."""
RETRY_SECONDS = 30


@csrf_exempt
@require_POST
@transaction.non_atomic_requests
def webhook(request: HttpRequest) -> HttpResponse:
    """
    204 for an event that was signed with the service's secret, once the row has its variants.

    The same event again changes nothing. 503 where the storage or the service fails: it comes again.
    """
    secret = conf().service_webhook_secret
    if secret is None:
        raise Http404
    body = request.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        return _refused("The body is too long.", 413)
    try:
        event = verify(secret.get_secret_value(), request.headers, body)
    except AuthenticationError as error:
        return _refused(str(error), 401)
    except (ValueError, RecursionError):
        return _refused("The body is no JSON.", 400)
    return _act_upon(event)


def _act_upon(event: Any) -> HttpResponse:
    data = event.get("data") if isinstance(event, dict) else None
    job_id = data.get("job_id") if isinstance(data, Mapping) else None
    if not isinstance(job_id, str):
        return _refused("The body is no event of a job.", 400)
    try:
        collect(job_id)
    except ImageProcessorError as error:
        logger.warning("A picture cannot be fetched from the service for now: %s", error)
        return _refused("Try again later.", 503, {"Retry-After": str(RETRY_SECONDS)})
    return HttpResponse(status=204)


def _refused(message: str, status: int, headers: Mapping[str, str] | None = None) -> JsonResponse:
    return JsonResponse({"error": message}, status=status, headers=headers)
