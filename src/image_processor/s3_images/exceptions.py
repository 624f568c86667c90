"""What S3ImageService raises of its own, within the one error tree; the translation into it."""
# ruff: noqa: N818 - two of these names were given, and the others follow them

from collections.abc import Iterator
from contextlib import contextmanager

from image_processor.errors import (
    InvalidRequestError,
    StorageDownError,
    StorageError,
    UnavailableError,
)


class ValidationException(InvalidRequestError):
    """An argument is out of its range; trying again is in vain. Says which in `details["parameter"]`."""


class S3UploadException(StorageError):
    """An upload failed, and nothing of it can be seen; the same call may be made again."""


class S3DownloadException(StorageError):
    """A download failed, or gave other bytes than were stored."""


class S3PresignException(StorageError):
    """There is nothing to sign an address with."""


class S3DeleteException(StorageError):
    """A deletion did not come to its end: no reader finds the image any more, and the same call goes on."""


class S3UploadUnavailableException(S3UploadException, StorageDownError):
    """The same, because S3 is down or the key is in use; `retry_after_seconds` says when to come again."""

    code = StorageDownError.code


class S3DownloadUnavailableException(S3DownloadException, StorageDownError):
    """The same, because S3 is down; `retry_after_seconds` says when to come again."""

    code = StorageDownError.code


class S3PresignUnavailableException(S3PresignException, StorageDownError):
    """The same, until somebody gives us credentials."""

    code = StorageDownError.code


class S3DeleteUnavailableException(S3DeleteException, StorageDownError):
    """The same, because S3 is down or the image is in use; `retry_after_seconds` says when to come again."""

    code = StorageDownError.code


_WHILE_DOWN: dict[type[StorageError], type[StorageDownError]] = {
    S3UploadException: S3UploadUnavailableException,
    S3DownloadException: S3DownloadUnavailableException,
    S3PresignException: S3PresignUnavailableException,
    S3DeleteException: S3DeleteUnavailableException,
}


@contextmanager
def failing_as(kind: type[StorageError], sentence: str) -> Iterator[None]:
    """Failures of a storage in the words of one method; `details["cause"]` is the code of what happened."""
    try:
        yield
    except UnavailableError as error:
        raise _WHILE_DOWN[kind](
            f"{sentence}: {error}", retry_after_seconds=error.retry_after_seconds, cause=error.code
        ) from error
    except StorageError as error:
        raise kind(f"{sentence}: {error}", cause=error.code) from error
