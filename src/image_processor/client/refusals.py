"""Answers that are no success, and connections that fail, as errors of the one tree."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from image_processor import errors
from image_processor.errors import (
    AuthenticationError,
    FileTooLargeError,
    ImageProcessorError,
    NotFoundError,
    RateLimitError,
    ResultNotReadyError,
    Retry,
    UnavailableError,
)

USUAL_LIMIT_SECONDS = 60
"""What is waited for where a limit does not say when it ends."""


class UnreachableError(UnavailableError):
    """The service could not be reached, or its answer was lost."""

    code = "unreachable"
    was_sent = True
    """Whether something of the request may have arrived."""


class UnexpectedAnswerError(ImageProcessorError):
    """What answered is not this service, or not one that this client understands."""

    code = "unexpected_answer"
    status = 502
    retry = Retry.NEVER


class WaitTimeoutError(ResultNotReadyError, TimeoutError):
    """The job had not come to rest when the time to wait for it was over; it goes on."""


def _known() -> dict[str, type[ImageProcessorError]]:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    return {
        kind.code: kind for kind in kinds if issubclass(kind, ImageProcessorError) and "code" in vars(kind)
    }


errors_by_code: Mapping[str, type[ImageProcessorError]] = _known()
"""The class of each code that a service of this version answers with."""
BY_STATUS: Mapping[int, type[ImageProcessorError]] = {
    401: AuthenticationError,
    404: NotFoundError,
    413: FileTooLargeError,
    429: RateLimitError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
"""What an answer means that does not come from the service itself: of a proxy before it, or a storage."""


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> ImageProcessorError:
    """
    The error that this answer is; its class by the code, or by the status where there is no code.

    An unknown code is an ImageProcessorError with that `code`; `status` is the answer's, always.
    """
    said = _said(body)
    code = str(said.get("code") or "http_error")
    message = str(said.get("message") or f"The service answered with HTTP {status}.")
    kind = _kind(code, status, errors_by_code.get(code) or BY_STATUS.get(status, ImageProcessorError))
    error = _made(kind, message, retry_after(headers))
    details = said.get("details")
    error.details = details if isinstance(details, dict) else {}
    return error


def _said(body: bytes) -> Mapping[str, Any]:
    """The `error` object of the one body of errors, or nothing."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    said = value.get("error") if isinstance(value, dict) else None
    return said if isinstance(said, dict) else {}


def _kind(code: str, status: int, base: type[ImageProcessorError]) -> type[ImageProcessorError]:
    """That class, or one below it that says the code and status of the answer."""
    if (base.code, base.status) == (code, status):
        return base
    own = {"code": code, "status": status, "__module__": base.__module__, "__doc__": base.__doc__}
    return cast("type[ImageProcessorError]", type(base.__name__, (base,), own))


def _made(kind: type[ImageProcessorError], message: str, seconds: int | None) -> ImageProcessorError:
    if issubclass(kind, RateLimitError):
        return kind(message, retry_after_seconds=USUAL_LIMIT_SECONDS if seconds is None else seconds)
    error = kind(message)
    if isinstance(error, UnavailableError) and seconds is not None:
        error.retry_after_seconds = seconds
    return error


def retry_after(headers: Mapping[str, str]) -> int | None:
    """The seconds of `Retry-After`, which may be a number or a date (RFC 9110, 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return int(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0, round((at - datetime.now(UTC)).total_seconds()))
