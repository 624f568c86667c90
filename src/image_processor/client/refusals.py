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
    ForbiddenError,
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
    403: ForbiddenError,
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
    if 300 <= status < 400:
        message = f"The service is elsewhere (HTTP {status}); a client does not follow with a token."
        return UnexpectedAnswerError(message, location=headers.get("location", ""))
    said = _said(body)
    base = errors_by_code.get(str(said.get("code"))) or BY_STATUS.get(status, ImageProcessorError)
    return _error(said, base, status, retry_after(headers))


def entry_refusal(said: Mapping[str, Any], headers: Mapping[str, str]) -> ImageProcessorError:
    """The error that one entry of an answer is, with the status of its class."""
    base = errors_by_code.get(str(said.get("code")), ImageProcessorError)
    details = said.get("details")
    until = details.get("reset_at") if isinstance(details, dict) else None
    return _error(said, base, base.status, _seconds_until(until, headers))


def _error(
    said: Mapping[str, Any], base: type[ImageProcessorError], status: int, seconds: int | None
) -> ImageProcessorError:
    code = str(said.get("code") or "http_error")
    message = str(said.get("message") or f"The service answered with HTTP {status}.")
    error = _made(_kind(code, status, base), message, seconds)
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
    at = _date(text)
    return None if at is None else _seconds(at, headers)


def _seconds_until(text: object, headers: Mapping[str, str]) -> int | None:
    """Until a time in ISO 8601."""
    try:
        return _seconds(_zoned(datetime.fromisoformat(str(text))), headers)
    except ValueError:
        return None


def _seconds(at: datetime, headers: Mapping[str, str]) -> int:
    """Until then by the clock that named it, which is not ours: its answer says what it shows."""
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0, round((at - now).total_seconds()))


def _date(text: str) -> datetime | None:
    try:
        return _zoned(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _zoned(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
