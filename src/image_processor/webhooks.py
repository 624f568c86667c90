"""Callbacks as the Standard Webhooks convention has them: body, signature, sending one; and `verify`."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from image_processor.errors import (
    AuthenticationError,
    ConfigurationError,
    ImageProcessorError,
    RejectedError,
    SourceUnavailableError,
)
from image_processor.telemetry import emit

if TYPE_CHECKING:  # a receiver that imports `verify` needs no database
    from image_processor.jobs.deliveries import Delivery, DeliveryRepository

SECRET_PREFIX = "whsec_"  # noqa: S105 - what tells that something is a secret
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""As the convention has it: https://github.com/standard-webhooks/standard-webhooks"""
TOLERANCE_SECONDS = 300
MAX_SIGNATURES = 20
"""A receiver looks at no more: a sender that changes its secret needs two."""
GONE = 410
PAUSING = frozenset({429, 503})
"""Answers whose `Retry-After` is a request to be heard."""
LEASE_MARGIN_SECONDS = 15.0
"""Beyond the time that a receiver has: for making the body, and for writing down what came of it."""

UrlsOf = Callable[[str, str], Mapping[str, str]]
"""The addresses of an image's variants by name, given its id and its owner's; empty where it is deleted."""


class Outlet(Protocol):
    """The way out, which `outbound.Outbound` is; it refuses addresses that are not public."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float) -> int:
        """
        The status of the answer, whatever it is; where it says how long to wait, as `retry_after_seconds`.

        Raises InvalidRequestError, AddressRefusedError, SourceUnavailableError.
        """


def read_secret(text: str) -> bytes:
    """The key in a secret of the form `whsec_` and base64. Raises ConfigurationError."""
    encoded = text.strip().removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigurationError(
            "The webhook secret is not base64; it is to be `whsec_` and base64 of 24 to 64 random bytes."
        ) from error
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ConfigurationError(
            f"The webhook secret has {len(key)} bytes; it is to be `whsec_` and base64 of "
            f"{MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes."
        )
    return key


def sign(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """The signature of one attempt, `v1,` and base64; `timestamp` is in seconds since the epoch."""
    digest = hmac.new(
        key, f"{event_id}.{timestamp}.".encode(errors="surrogatepass") + body, hashlib.sha256
    ).digest()
    return "v1," + base64.b64encode(digest).decode()


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> dict[str, Any]:
    """
    The event in the request of a webhook, for its receiver; `body` is to be the bytes as they came.

    Raises AuthenticationError for a request that was not signed with this secret, whose time is further than
    `tolerance_seconds` from now, or that lacks a header; ConfigurationError for what is no secret.
    """
    key = read_secret(secret)
    given = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, timestamp = given["webhook-id"], int(given["webhook-timestamp"])
        signatures = given["webhook-signature"].split(" ")[:MAX_SIGNATURES]
    except (KeyError, ValueError) as error:
        raise AuthenticationError("The request lacks a header that every webhook has.") from error
    if abs(int(time.time()) - timestamp) > tolerance_seconds:
        raise AuthenticationError("The request is too old, or its time lies ahead of this clock.")
    expected = sign(key, event_id, timestamp, body).encode()
    if not any(
        hmac.compare_digest(expected, signature.encode(errors="surrogatepass")) for signature in signatures
    ):
        raise AuthenticationError("The request was not signed with this secret, or was changed on its way.")
    event: dict[str, Any] = json.loads(body)
    return event


def public_url(url: str) -> str:
    """`url` as it may be shown: without its query and fragment, which is where secrets are put."""
    parts = urlsplit(url)
    return parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]).geturl()


class Courier:
    """Sends claimed deliveries, one a call, and writes down what came of it; any number of threads may."""

    def __init__(
        self,
        *,
        deliveries: "DeliveryRepository",
        outlet: Outlet,
        key: bytes,
        urls_of: UrlsOf,
        timeout_seconds: float,
    ) -> None:
        self._deliveries = deliveries
        self._outlet = outlet
        self._key = key
        self._urls_of = urls_of
        self._timeout_seconds = timeout_seconds

    @property
    def deliveries(self) -> "DeliveryRepository":
        """Where deliveries are claimed."""
        return self._deliveries

    @property
    def lease_seconds(self) -> float:
        """How long a claim has to be for: the receiver's time and a margin."""
        return self._timeout_seconds + LEASE_MARGIN_SECONDS

    def deliver(self, claim: "Delivery") -> None:
        """
        Make one attempt; it ends delivered, retrying or failed, unless somebody else owns it by now.

        Raises UnavailableError where the database cannot be told: the lease will end, and it is sent again.
        """
        started = time.monotonic()
        try:
            status = self._post(claim)
        except ImageProcessorError as error:
            self._failed(claim, error)
        except Exception as error:  # noqa: BLE001 - a bug of ours must cost an attempt, not the courier
            emit("courier.failed", delivery_id=claim.delivery_id, error=f"{type(error).__name__}: {error}")
            self._failed(claim, SourceUnavailableError("Something went wrong on our side; it was logged."))
        else:
            self._answered(claim, status, time.monotonic() - started)

    def _post(self, claim: "Delivery") -> int:
        body, timestamp = self.body(claim), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": claim.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._key, claim.delivery_id, timestamp, body),
        }
        return self._outlet.post(claim.url, body, headers, timeout_seconds=self._timeout_seconds)

    def body(self, delivery: "Delivery") -> bytes:
        """The event as JSON; the addresses of the variants are those of now."""
        data = dict(delivery.event)
        if delivery.event_type == "job.completed":
            data["urls"] = dict(self._urls_of(data["image_id"], delivery.user_id))
        event = {"type": delivery.event_type, "timestamp": delivery.created_at, "data": data}
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()

    def _answered(self, claim: "Delivery", status: int, seconds: float) -> None:
        if not 200 <= status < 300:
            self._failed(claim, _refusal(status), status)
        elif self._deliveries.delivered(claim, status):
            emit("webhook.delivered", **_fields(claim), status=int(status), seconds=round(seconds, 3))
        else:
            emit("webhook.lost", **_fields(claim))

    def _failed(self, claim: "Delivery", error: ImageProcessorError, status: int | None = None) -> None:
        left = self._deliveries.failed(
            claim, error=error, response_status=status, retry_after=_pause_asked_for(status)
        )
        emit(f"webhook.{_OUTCOMES.get(left, 'lost')}", **_fields(claim), error=error.message)


_OUTCOMES: Mapping[str | None, str] = {"retrying": "retried", "failed": "failed"}


def _refusal(status: int) -> ImageProcessorError:
    if status == GONE:
        return RejectedError("The receiver answered 410: it wants no more callbacks.")
    return SourceUnavailableError(f"The receiver answered {status}.")


def _pause_asked_for(status: int | None) -> float | None:
    return getattr(status, "retry_after_seconds", None) if status in PAUSING else None


def _fields(claim: "Delivery") -> dict[str, Any]:
    return {"job_id": claim.job_id, "delivery_id": claim.delivery_id, "attempt": claim.attempt_count}
