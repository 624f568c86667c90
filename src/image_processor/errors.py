"""
The one error tree. Every error knows its code, its HTTP status and whether a retry helps.

    ImageProcessorError
    ├── RejectedError                 what cannot get better: no retry
    │   ├── UnsupportedFormatError    415  not an image, or not a type that is accepted
    │   ├── CorruptImageError         422  truncated or damaged
    │   ├── FileTooLargeError         413  more bytes than allowed
    │   ├── ImageTooLargeError        422  too many pixels, too long a side, too many frames
    │   ├── ImageTooSmallError        422  a side shorter than the preset asks for
    │   ├── ImageTooComplexError      422  processing it takes more memory than a decoder may have
    │   ├── InvalidRequestError       422  a parameter out of its range
    │   │   └── InvalidOperationError 422  an operation out of its range, or impossible on this image
    │   ├── InvalidKeyError           422  a storage key outside the grammar
    │   ├── IdempotencyError          422  an idempotency key that came with another request before
    │   ├── AddressRefusedError       422  a URL that leads to an address which is not public
    │   ├── SourceNotFoundError       422  there is nothing under a job's input, or it is not for us
    │   └── MissingExtraError         501  an optional part of this package is not installed
    ├── UploadTimeoutError            408  the body did not arrive in time
    ├── AuthenticationError           401  no token
    │   └── TokenError                     one that does not hold
    ├── ForbiddenError                403  the token lacks the scope for this
    ├── UploadAddressError            403  the address of a direct upload has expired or was changed
    ├── NotFoundError                 404
    ├── ResultNotReadyError           409
    ├── JobFailedError                422  the result of a job that failed was asked for
    ├── ConflictError                 409  the job is not in a state for that
    ├── RateLimitError                429  with the seconds to wait
    ├── TooManyStreamsError           429  more event streams at once than a user may have
    ├── SourceUnavailableError        502  the place of a job's input or callback failed: retried
    ├── UnavailableError              503  something below is busy or down: try later; no attempt is charged
    │   ├── StorageFullError          507
    │   ├── StorageReadOnlyError           the place takes nothing for now
    │   └── StorageDownError               a storage does not answer, or not well
    │       ├── StorageTimeoutError        it was too slow
    │       ├── StorageThrottledError      it asks for fewer requests
    │       ├── StorageDeniedError         it refuses us this
    │       ├── StorageCredentialsError    it does not know us: wrong or expired credentials
    │       ├── StorageClockError          its clock and ours differ too much for signatures
    │       └── BucketMissingError         the bucket does not exist
    ├── StorageError                  500  a storage answered wrongly: retried
    │   └── StorageDamageError             fewer or other bytes than were stored
    ├── EngineError                   500  the engine failed for no fault of the image: retried
    │   ├── EngineCrashedError             its process died
    │   └── EngineTimeoutError             its process passed the deadline and was killed
    └── ConfigurationError            500  only ever raised at start-up
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, ClassVar


class Retry(StrEnum):
    """Whether, and how, trying again helps."""

    NEVER = "never"
    """The same input gives the same error for ever."""
    TRANSIENT = "transient"
    """Trying again may help; the attempt counts."""
    UNAVAILABLE = "unavailable"
    """Something outside is down; the attempt is not the job's fault and does not count."""
    CRASH = "crash"
    """The process that did the work died; counted apart from failures."""


class ImageProcessorError(Exception):
    """Base of all errors of this package; `str(error)` is a sentence that a person understands."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retry: ClassVar[Retry] = Retry.TRANSIENT
    is_private = False
    """Whether its words are for the log alone: those of a database name hosts and users."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class RejectedError(ImageProcessorError):
    """The input is refused, and would be refused again."""

    code = "rejected"
    status = 422
    retry = Retry.NEVER


class UnsupportedFormatError(RejectedError):
    """Not an image, or an image of a type that is not accepted; details name the accepted types."""

    code = "unsupported_format"
    status = 415


class CorruptImageError(RejectedError):
    """The image is truncated or damaged."""

    code = "corrupt_image"


class FileTooLargeError(RejectedError):
    """The file has more bytes than allowed."""

    code = "file_too_large"
    status = 413


class ImageTooLargeError(RejectedError):
    """The image has more pixels, longer sides or more frames than allowed."""

    code = "image_too_large"


class ImageTooSmallError(RejectedError):
    """A side of the image is shorter than the preset asks for."""

    code = "image_too_small"


class ImageTooComplexError(RejectedError):
    """To process the image as it is asked for takes more memory than the process that decodes may have."""

    code = "image_too_complex"


class InvalidRequestError(RejectedError):
    """A parameter is missing or out of its range."""

    code = "invalid_request"


class InvalidOperationError(InvalidRequestError):
    """An operation or an output is out of its range, or cannot be done with this image."""

    code = "invalid_operation"


class MissingExtraError(RejectedError):
    """Something needs an optional part of this package that is not installed; the message names it."""

    code = "missing_extra"
    status = 501


class InvalidKeyError(RejectedError):
    """A storage key is outside the grammar."""

    code = "invalid_key"


class IdempotencyError(RejectedError):
    """The idempotency key was used for another request before."""

    code = "idempotency_key_reused"


class AddressRefusedError(RejectedError):
    """A URL leads to an address that is not public, and that was not allowed."""

    code = "address_refused"


class SourceNotFoundError(RejectedError):
    """There is nothing under the input of a job, or the place does not give it to us."""

    code = "source_not_found"


class UploadTimeoutError(ImageProcessorError):
    """The body of the upload did not arrive in time."""

    code = "upload_timeout"
    status = 408


class TokenFault(StrEnum):
    """What is wrong with a token: for the audit. Who sent it is told a sentence."""

    MISSING = "missing"
    NOT_A_BEARER = "not_a_bearer"
    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    WRONG_ALGORITHM = "wrong_algorithm"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_ISSUER = "wrong_issuer"
    MISSING_CLAIM = "missing_claim"
    BAD_CLAIM = "bad_claim"


class AuthenticationError(ImageProcessorError):
    """No token, or one that does not hold."""

    code = "not_authenticated"
    status = 401
    retry = Retry.NEVER
    fault = TokenFault.MISSING

    def __init__(self, message: str, *, fault: TokenFault | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.fault = fault or self.fault


class TokenError(AuthenticationError):
    """The token does not hold: malformed, expired, not for us, or not signed with a key that counts here."""

    fault = TokenFault.MALFORMED


class ForbiddenError(ImageProcessorError):
    """The token holds and does not allow this; details name the scope that it lacks."""

    code = "forbidden"
    status = 403
    retry = Retry.NEVER


class UploadAddressError(ImageProcessorError):
    """The address of a direct upload has expired, or is not as it was given out."""

    code = "upload_address_refused"
    status = 403
    retry = Retry.NEVER


class NotFoundError(ImageProcessorError):
    """There is no such thing, or it is somebody else's."""

    code = "not_found"
    status = 404
    retry = Retry.NEVER


class ResultNotReadyError(ImageProcessorError):
    """The job has not finished yet."""

    code = "result_not_ready"
    status = 409
    retry = Retry.TRANSIENT


class JobFailedError(ImageProcessorError):
    """The job failed: there is no result and there will be none."""

    code = "job_failed"
    status = 422
    retry = Retry.NEVER


class ConflictError(ImageProcessorError):
    """The job is not in a state in which this can be done."""

    code = "conflict"
    status = 409
    retry = Retry.NEVER


class TooManyStreamsError(ImageProcessorError):
    """The user has as many event streams open as one may have."""

    code = "too_many_streams"
    status = 429


class SourceUnavailableError(ImageProcessorError):
    """The place of a job's input, or of its callback, failed or did not answer in time."""

    code = "source_unavailable"
    status = 502


class RateLimitError(ImageProcessorError):
    """The user has used up the uploads of this window."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, *, retry_after_seconds: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(ImageProcessorError):
    """Something this depends on is busy or down; try again later."""

    code = "unavailable"
    status = 503
    retry = Retry.UNAVAILABLE
    retry_after_seconds: int = 5


class StorageFullError(UnavailableError):
    """The disk is, or is nearly, full."""

    code = "storage_full"
    status = 507
    retry_after_seconds = 60


class StorageReadOnlyError(UnavailableError):
    """The storage can be read from and not written to."""

    code = "storage_read_only"
    retry_after_seconds = 60


class StorageDownError(UnavailableError):
    """A storage does not answer, or answers that it cannot."""

    code = "storage_down"
    retry_after_seconds: int = 5

    def __init__(self, message: str, *, retry_after_seconds: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


class StorageTimeoutError(StorageDownError):
    """A storage did not answer in time, or fell silent in the middle."""

    code = "storage_timeout"


class StorageThrottledError(StorageDownError):
    """A storage asks for fewer requests."""

    code = "storage_throttled"
    retry_after_seconds = 15


class StorageDeniedError(StorageDownError):
    """A storage knows us and refuses us this; who runs the service has to mend that."""

    code = "storage_denied"
    retry_after_seconds = 60


class StorageCredentialsError(StorageDownError):
    """A storage does not know our credentials, or there are none; who runs the service has to mend that."""

    code = "storage_credentials"
    retry_after_seconds = 60


class StorageClockError(StorageDownError):
    """A storage's clock and ours differ too much for signatures; who runs the service has to mend that."""

    code = "storage_clock_skew"
    retry_after_seconds = 60


class BucketMissingError(StorageDownError):
    """The bucket does not exist; who runs the service has to mend that."""

    code = "bucket_missing"
    retry_after_seconds = 60


class StorageError(ImageProcessorError):
    """A storage failed or answered wrongly."""

    code = "storage_error"


class StorageDamageError(StorageError):
    """What came from a storage, or what arrived there, is not what was stored."""

    code = "storage_damage"


class EngineError(ImageProcessorError):
    """The engine failed for no fault of the image that it can name."""

    code = "engine_error"


class EngineCrashedError(EngineError):
    """The process that decodes died."""

    code = "engine_crashed"
    retry = Retry.CRASH


class EngineTimeoutError(EngineError):
    """The process that decodes passed its deadline and was killed."""

    code = "engine_timeout"


class ConfigurationError(ImageProcessorError):
    """The settings do not make a service that is safe to start."""

    code = "configuration"
    retry = Retry.NEVER


def is_disk_full(error: OSError) -> bool:
    """Whether there is no room left, on the disk or in a quota: what becomes a StorageFullError."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(*, full: str, failed: str) -> Iterator[None]:
    """
    The operating system's errors as StorageFullError and StorageError.

    `full` is a whole sentence; `failed` is one to which the reason is added.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError(full) from error
        raise StorageError(f"{failed}: {error.strerror or error}.") from error
