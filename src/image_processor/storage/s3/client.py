"""The one client of S3 a process has for each place, and its errors in our words."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from image_processor.errors import (
    BucketMissingError,
    ConfigurationError,
    ImageProcessorError,
    MissingExtraError,
    NotFoundError,
    StorageClockError,
    StorageCredentialsError,
    StorageDamageError,
    StorageDeniedError,
    StorageDownError,
    StorageError,
    StorageFullError,
    StorageThrottledError,
    StorageTimeoutError,
)
from image_processor.settings import Settings

try:
    import boto3
    import urllib3
    from botocore import exceptions
    from botocore.config import Config
except ModuleNotFoundError as absence:
    _absence: ModuleNotFoundError | None = absence
else:
    _absence = None

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ChecksumMode = Literal["when_supported", "when_required"]

MAX_CONNECTIONS = 32
MAX_RETRY_AFTER_SECONDS = 300
DEFAULT_REGION = "us-east-1"
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """Which place is spoken to, and how. Two storages with equal options share a client."""

    region: str = ""
    """Of what is written; empty for what boto3 finds, and `us-east-1` where that is nothing."""
    endpoint_url: str = ""
    """Empty for AWS."""
    public_endpoint_url: str = ""
    """The same place as clients see it, for presigned addresses; empty where it does not differ."""
    access_key_id: str = field(default="", repr=False)
    """With the next two: empty for the credentials that boto3 finds, and renews, by itself."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    checksums: ChecksumMode | Literal["auto"] = "auto"
    """`auto` is the former with AWS alone, as others may refuse them."""
    connect_timeout_seconds: float = 3.0
    read_timeout_seconds: float = 20.0
    """How long a connection may be silent."""
    max_attempts: int = 2
    """Within one call, the first included."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(
            region=settings.aws_region,
            endpoint_url=settings.s3_endpoint_url,
            public_endpoint_url=settings.s3_public_endpoint_url,
            access_key_id=settings.aws_access_key_id,
            secret_access_key=settings.aws_secret_access_key,
            session_token=settings.aws_session_token,
            addressing_style=settings.s3_addressing_style,
            checksums=settings.s3_checksums,
            connect_timeout_seconds=settings.s3_connect_timeout_seconds,
            read_timeout_seconds=settings.s3_read_timeout_seconds,
            max_attempts=settings.s3_max_attempts,
        )

    @property
    def checksum_mode(self) -> ChecksumMode:
        """What boto3 is told."""
        if self.checksums != "auto":
            return self.checksums
        return "when_required" if self.endpoint_url else "when_supported"


_clients: "dict[tuple[int, S3Options], S3Client]" = {}
"""By process too: what a fork inherits has connections that two would write to."""
_turn = threading.Lock()  # sessions of boto3 are not made for several threads
os.register_at_fork(before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_turn.release)


def client_for(options: S3Options) -> "S3Client":
    """
    The process's client for these options, made at the first call; it is safe for threads.

    Nothing is asked of the place yet. Raises MissingExtraError without the extra `s3`, ConfigurationError
    for options that make no client.
    """
    if _absence is not None:
        raise MissingExtraError(
            "Storage in S3 needs an optional part: pip install image-processor[s3]."
        ) from _absence
    name = os.getpid(), options
    with _turn:
        if name not in _clients:
            _clients[name] = _new_client(options)
        return _clients[name]


def forget_client(options: S3Options) -> None:
    """Make a new one at the next call, which finds its credentials anew; the old one ends with its users."""
    with _turn:
        _clients.pop((os.getpid(), options), None)


def public_client_for(options: S3Options) -> "S3Client":
    """The client that signs addresses for clients of ours; raises as `client_for`."""
    return client_for(replace(options, endpoint_url=options.public_endpoint_url or options.endpoint_url))


def _new_client(options: S3Options) -> "S3Client":
    session = boto3.Session()
    config = Config(
        signature_version="s3v4",
        connect_timeout=options.connect_timeout_seconds,
        read_timeout=options.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": options.max_attempts},
        tcp_keepalive=True,
        max_pool_connections=MAX_CONNECTIONS,
        s3={"addressing_style": options.addressing_style},
        request_checksum_calculation=options.checksum_mode,
        response_checksum_validation=options.checksum_mode,
    )
    credentials: dict[str, Any] = {}
    if options.access_key_id:
        credentials = {
            "aws_access_key_id": options.access_key_id,
            "aws_secret_access_key": options.secret_access_key,
            "aws_session_token": options.session_token or None,
        }
    try:
        return session.client(
            "s3",
            region_name=options.region or session.region_name or DEFAULT_REGION,
            endpoint_url=options.endpoint_url or None,
            config=config,
            **credentials,
        )
    except (ValueError, exceptions.BotoCoreError) as error:
        raise ConfigurationError(f"The settings of S3 make no client: {error}") from error


Made = Callable[[str], ImageProcessorError]

BY_CODE: dict[str, Made] = {
    **dict.fromkeys(
        ("NoSuchKey", "NoSuchVersion", "404", "NotFound"),
        lambda what: NotFoundError(f"The storage failed to {what}: there is no such object."),
    ),
    **dict.fromkeys(
        ("NoSuchBucket", "InvalidBucketName"),
        lambda _: BucketMissingError("The bucket of the storage does not exist."),
    ),
    "NoSuchUpload": lambda what: StorageError(f"The storage failed to {what}: the parts are gone."),
    **dict.fromkeys(
        ("PreconditionFailed", "412"),
        lambda what: StorageDamageError(f"The storage failed to {what}: it was replaced meanwhile."),
    ),
    **dict.fromkeys(
        ("InvalidRange", "416"),
        lambda what: StorageDamageError(f"The storage failed to {what}: it is shorter than it was said."),
    ),
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "403", "Forbidden", "AccountProblem", "InvalidObjectState"),
        lambda what: StorageDeniedError(f"The storage does not let us {what}."),
    ),
    **dict.fromkeys(
        (
            *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed"),
            *("UnrecognizedClientException", "InvalidSecurity", "NotSignedUp", *EXPIRED),
        ),
        lambda _: StorageCredentialsError("The storage does not accept our credentials."),
    ),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"),
        lambda _: StorageClockError("The clock of this machine and that of the storage differ too much."),
    ),
    **dict.fromkeys(
        (
            *("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "ServiceQuotaExceeded"),
            *("429", "503"),  # the latter of a HEAD, which comes without a reason, but that is the usual one
        ),
        lambda _: StorageThrottledError("The storage asks for fewer requests."),
    ),
    **dict.fromkeys(
        ("RequestTimeout", "RequestTimeoutException"),
        lambda _: StorageTimeoutError("The storage did not get, or not give, the bytes in time."),
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"),
        lambda _: StorageFullError("The storage is full."),
    ),
    **dict.fromkeys(
        (
            "BadDigest",
            "InvalidDigest",
            "IncompleteBody",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
        ),
        lambda _: StorageDamageError("The bytes did not arrive at the storage as they were sent."),
    ),
}
"""What S3's own error codes become."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of boto3, and of the connection below it, in our words; `what` is an action: `read 'a/b'`."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _from_answer(error, what) from error
    except (
        exceptions.ConnectTimeoutError,
        exceptions.ReadTimeoutError,
        urllib3.exceptions.ReadTimeoutError,
        TimeoutError,
    ) as error:
        raise StorageTimeoutError("The storage did not answer in time.") from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
    ) as error:
        raise StorageCredentialsError("There are no credentials for the storage.") from error
    except exceptions.IncompleteReadError as error:
        raise StorageDamageError("The storage sent fewer bytes than it said.") from error
    except exceptions.ResponseStreamingError as error:
        raise _from_body(error) from error
    except exceptions.FlexibleChecksumError as error:
        raise StorageDamageError("The storage sent other bytes than were stored.") from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise StorageDownError("The storage cannot be reached.") from error
    except exceptions.ParamValidationError as error:
        raise StorageError(f"The storage cannot be asked like that ({what}).") from error
    except exceptions.BotoCoreError as error:
        raise StorageError(f"The storage cannot be asked ({what}): {type(error).__name__}.") from error


def _from_body(error: "exceptions.ResponseStreamingError") -> ImageProcessorError:
    """A body that ends in good order and too early, or a connection that breaks."""
    reasons = getattr(error.kwargs.get("error"), "args", ())
    if any(isinstance(reason, urllib3.exceptions.IncompleteRead) for reason in reasons):
        return StorageDamageError("The storage sent fewer bytes than it said.")
    return StorageDownError("The connection to the storage broke.")


def _from_answer(error: "exceptions.ClientError", what: str) -> ImageProcessorError:
    answer: Any = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    made = BY_CODE.get(code) or (BY_CODE.get(str(status)) if status < 500 else None)
    if made is not None:
        return _told_when(made(what), answer)
    if status >= 500:
        return _told_when(StorageDownError("The storage failed on its side."), answer)
    return StorageError(f"The storage refused to {what}: {code or status}.")


def _told_when(error: ImageProcessorError, answer: Any) -> ImageProcessorError:
    """The error, with the time that the storage itself asks for."""
    seconds = str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    if isinstance(error, StorageDownError) and seconds.isascii() and seconds.isdigit():
        error.retry_after_seconds = max(1, min(int(seconds[:9]), MAX_RETRY_AFTER_SECONDS))
    return error
