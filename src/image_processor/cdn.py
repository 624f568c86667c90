"""What stands before the storage and keeps copies: public addresses there, and how it is told to forget."""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from image_processor.errors import MissingExtraError, UnavailableError
from image_processor.storage.base import Guard, NoGuard
from image_processor.storage.keys import check_key

if TYPE_CHECKING:
    from types_boto3_cloudfront import CloudFrontClient
    from types_boto3_cloudfront.type_defs import InvalidationBatchTypeDef

MAX_PATHS = 3000
"""What CloudFront takes at a time, over all invalidations that are under way."""
REGION = "us-east-1"
"""Where CloudFront is spoken to, wherever it serves."""


class Cdn(Protocol):
    """Copies of stored variants near their viewers."""

    def invalidate(self, keys: Collection[str]) -> None:
        """
        Make it forget what it keeps of these keys; it may take it minutes to do so.

        Raises UnavailableError where it cannot be told now; to tell it again does no harm.
        """
        ...


class NoCdn:
    """Keeps no copies."""

    def invalidate(self, keys: Collection[str]) -> None:
        """Nothing."""


def public_address(cdn_url: str) -> Callable[[str], str]:
    """How keys become addresses below `CDN_URL`."""
    base = cdn_url.rstrip("/")
    return lambda key: f"{base}/{check_key(key)}"


@dataclass(frozen=True, kw_only=True)
class AwsCredentials:
    """Empty for those that boto3 finds, and renews, by itself."""

    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    def arguments(self) -> Mapping[str, Any]:
        """As boto3 takes them."""
        if not self.access_key_id:
            return {}
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token or None,
        }


class CloudFront:
    """
    A distribution of Amazon CloudFront. Its right `cloudfront:CreateInvalidation` is all that is needed.

    `cdn_url` is that of the settings: a path in it stands before the keys. Nothing is asked of CloudFront
    yet. Raises MissingExtraError without the extra `s3`.
    """

    def __init__(
        self,
        distribution_id: str,
        *,
        cdn_url: str = "",
        credentials: AwsCredentials | None = None,
        guard: Guard | None = None,
        endpoint_url: str = "",
    ) -> None:
        self._distribution_id = distribution_id
        self._path = public_address(urlsplit(cdn_url).path)
        self._guard = guard or NoGuard()
        self._client = _new_client(credentials or AwsCredentials(), endpoint_url)

    def invalidate(self, keys: Collection[str]) -> None:
        """Ask for the invalidation of the keys' paths; see `Cdn.invalidate`."""
        for paths in _batches(sorted({self._path(key) for key in keys})):
            self._guard.call(self._send, paths)

    def _send(self, paths: list[str]) -> None:
        batch: InvalidationBatchTypeDef = {
            "Paths": {"Quantity": len(paths), "Items": paths},
            "CallerReference": uuid.uuid4().hex,
        }
        with _translated():
            self._client.create_invalidation(DistributionId=self._distribution_id, InvalidationBatch=batch)


def _new_client(credentials: AwsCredentials, endpoint_url: str) -> "CloudFrontClient":
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "CloudFront needs an optional part: pip install image-processor[s3]."
        ) from error
    return boto3.Session().client(
        "cloudfront",
        region_name=REGION,
        endpoint_url=endpoint_url or None,
        config=Config(
            connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 2}
        ),
        **credentials.arguments(),
    )


def _batches(paths: list[str]) -> Iterator[list[str]]:
    return (paths[start : start + MAX_PATHS] for start in range(0, len(paths), MAX_PATHS))


_SENTENCES = {
    "AccessDenied": "The CDN refuses us to make it forget; cloudfront:CreateInvalidation is needed.",
    "NoSuchDistribution": "The CDN's distribution does not exist; look at CLOUDFRONT_DISTRIBUTION_ID.",
    "TooManyInvalidationsInProgress": "The CDN is still at work on what it was to forget before.",
}


@contextmanager
def _translated() -> Iterator[None]:
    from botocore import exceptions  # noqa: PLC0415 - there, as a client was made

    try:
        yield
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise UnavailableError(_SENTENCES.get(code, "The CDN failed on its side.")) from error
    except exceptions.BotoCoreError as error:
        raise UnavailableError("The CDN cannot be reached.") from error
