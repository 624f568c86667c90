"""Callbacks that are due, one row for each time a job came to rest; a trigger of the database writes them."""

import json
import random
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, Text, bindparam

from image_processor.errors import EngineCrashedError, ImageProcessorError
from image_processor.jobs.clock import statement, to_iso
from image_processor.jobs.database import Database
from image_processor.jobs.retry import RELEASE, Decision, History, RetryPolicy

DELIVERY_RETRIES = RetryPolicy(delays_seconds=(5.0, 30.0, 120.0, 900.0, 3600.0, 21_600.0))
"""5 s, 30 s, 2 min, 15 min, 1 h, 6 h, and 6 h from then on."""
MAX_RETRY_AFTER_SECONDS = 3600.0
"""What a receiver may ask for at most; the policy's own delay may be longer."""
JITTER_SHARE = 0.1
"""Of a delay, added at random: receivers that come back are not met by everything at once."""
MAX_DELIVERIES = 100
MAX_ERROR_LENGTH = 500
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_GIVEN_UP = "The process that sent it stopped each time before it had an answer."

# While one is being sent, `run_at` is the end of its lease: what is due is found by one column. The states
# stand in the order in which the index has them; SQLite would not know it again otherwise.
_DUE = "status in ('pending', 'delivering', 'retrying') and run_at <= <now>"
_LONGEST_DUE = f"""
select delivery_id from webhook_deliveries where {_DUE} and user_id not in :resting order by run_at limit 1
"""  # noqa: S608
_RESTING = bindparam("resting", expanding=True, type_=Text)
ANY_DUE = statement(_LONGEST_DUE).bindparams(_RESTING)
CLAIM = statement(f"""
update webhook_deliveries
set status = 'delivering', claim_seq = claim_seq + 1, attempt_count = attempt_count + 1,
    lease_until = <now> + :lease_seconds, run_at = <now> + :lease_seconds
where delivery_id = ({_LONGEST_DUE} <skip_locked>) and {_DUE}
returning *
""").bindparams(_RESTING)  # noqa: S608

SETTLE = statement("""
update webhook_deliveries
set status = :status, attempt_count = attempt_count - :refund, run_at = <now> + :delay_seconds,
    lease_until = null, response_status = :response_status, last_error = :last_error,
    completed_at = case when :is_final = 1 then <now_iso> end
where delivery_id = :delivery_id and status = 'delivering' and claim_seq = :claim_seq
returning status
""")

REPLAY = statement("""
update webhook_deliveries
set status = 'pending', attempt_count = 0, run_at = <now>, completed_at = null, response_status = null,
    last_error = null
where delivery_id = :delivery_id and user_id = :user_id and status in ('delivered', 'failed')
""")

ONE = statement("""
select * from webhook_deliveries where delivery_id = :delivery_id and user_id = :user_id
""")
OF_JOB = statement("""
select * from webhook_deliveries where job_id = :job_id and user_id = :user_id
order by created_at desc, delivery_id limit :limit
""")
NEXT_DUE = statement("""
select min(run_at) - <now> from webhook_deliveries where status in ('pending', 'delivering', 'retrying')
""")


class DeliveryStatus(StrEnum):
    """Where a delivery is in its life."""

    PENDING = "pending"
    """Due at once."""
    DELIVERING = "delivering"
    """Being sent; its lease says until when the answer is waited for."""
    RETRYING = "retrying"
    """An attempt was not accepted; the next one waits for its time."""
    DELIVERED = "delivered"
    """The receiver accepted it."""
    FAILED = "failed"
    """Nobody tries any more; it can be replayed."""


FINAL = frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.FAILED})


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One event for one receiver; as `claim` gives it, the right to send it, until its lease ends."""

    delivery_id: str
    """The event's id, the same at every attempt and replay: the receiver knows repeats by it."""
    job_id: str
    user_id: str
    url: str
    event_type: str
    """`job.completed` or `job.failed`."""
    event: Mapping[str, Any]
    """What the job was when it came to rest."""
    status: DeliveryStatus
    attempt_count: int
    """Attempts so far, the present one included."""
    claim_seq: int
    """It grows with every claim and never falls."""
    response_status: int | None
    """What the receiver answered to the last attempt; None where it did not."""
    last_error: str | None
    created_at: str
    """ISO 8601, UTC: when the job came to rest."""
    next_attempt_at: str | None
    """None while it is being sent, and when it has come to rest itself."""
    completed_at: str | None


class DeliveryRepository:
    """What the couriers, and the owners of jobs, may do with deliveries; one transaction a method."""

    def __init__(
        self,
        database: Database,
        *,
        policy: RetryPolicy = DELIVERY_RETRIES,
        max_retries: int = 8,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._policy = policy
        self._max_retries = max_retries
        self._jitter = jitter

    def claim(self, lease_seconds: float, *, resting: Collection[str] = ()) -> Delivery | None:
        """
        The delivery that is due longest, those included whose lease has ended; None where there is none.

        Those of the users in `resting` are left out.
        """
        left_out = list(resting)
        if not self._is_any_due(left_out):
            return None  # whoever polls need not take the write lock for that
        parameters = {"lease_seconds": lease_seconds, "resting": left_out}
        with self._database.write() as connection:
            while row := connection.execute(CLAIM, parameters).mappings().one_or_none():
                claim = to_delivery(row)
                if claim.attempt_count <= self._max_retries + 1:
                    return claim
                _settle(connection, claim, _END, error=EngineCrashedError(_GIVEN_UP))
        return None

    def _is_any_due(self, resting: list[str]) -> bool:
        with self._database.read() as connection:
            return connection.execute(ANY_DUE, {"resting": resting}).first() is not None

    def delivered(self, claim: Delivery, response_status: int) -> bool:
        """The receiver has accepted it. False: somebody else sends it by now."""
        with self._database.write() as connection:
            status = _settle(connection, claim, _ACCEPT, response_status=response_status)
        return status is not None

    def failed(
        self,
        claim: Delivery,
        *,
        error: ImageProcessorError,
        response_status: int | None,
        retry_after: float | None = None,
    ) -> DeliveryStatus | None:
        """
        End the attempt as the retry policy decides for `error`; gives where that leaves the delivery.

        `retry_after` is the pause in seconds that the receiver asks for; up to an hour is granted.
        None: somebody else sends it by now.
        """
        settling = self._decide(claim, error, retry_after)
        with self._database.write() as connection:
            return _settle(connection, claim, settling, error=error, response_status=response_status)

    def _decide(self, claim: Delivery, error: ImageProcessorError, retry_after: float | None) -> "_Settling":
        history = History(attempt=claim.attempt_count, max_retries=self._max_retries)
        decision = self._policy.decide(error, history)
        asked_for = min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
        delay_seconds = max(decision.delay_seconds, asked_for) * (1.0 + JITTER_SHARE * self._jitter())
        return _Settling.of(decision, delay_seconds)

    def release(self, claim: Delivery) -> bool:
        """Give the delivery and the attempt back, due at once. False: somebody else sends it by now."""
        with self._database.write() as connection:
            return _settle(connection, claim, _Settling.of(RELEASE, 0.0)) is not None

    def deliveries(self, job_id: str, user_id: str) -> list[Delivery]:
        """The newest 100 deliveries of the user's job, the newest first."""
        parameters = {"job_id": job_id, "user_id": user_id, "limit": MAX_DELIVERIES}
        with self._database.read() as connection:
            return [to_delivery(row) for row in connection.execute(OF_JOB, parameters).mappings()]

    def delivery(self, delivery_id: str, user_id: str) -> Delivery | None:
        """The user's delivery; None where there is none."""
        with self._database.read() as connection:
            return _find(connection, delivery_id, user_id)

    def replay(self, delivery_id: str, user_id: str) -> Delivery | None:
        """
        Have a delivery that came to rest sent again, with all its attempts and under the same event id.

        One that is still to be sent stays as it is. The delivery as it is then; None where the user has none.
        """
        with self._database.write() as connection:
            connection.execute(REPLAY, {"delivery_id": delivery_id, "user_id": user_id})
            return _find(connection, delivery_id, user_id)

    def next_due_in(self) -> float | None:
        """Seconds until a delivery is due or a lease ends, 0 where one is due; None where there is none."""
        with self._database.read() as connection:
            seconds = connection.execute(NEXT_DUE).scalar_one()
        return None if seconds is None else max(0.0, seconds)


@dataclass(frozen=True, kw_only=True)
class _Settling:
    """How an attempt ends."""

    status: DeliveryStatus
    delay_seconds: float = 0.0
    refunds_attempt: bool = False

    @classmethod
    def of(cls, decision: Decision, delay_seconds: float) -> "_Settling":
        # The states that a decision names are called the same for jobs and for deliveries.
        status = DeliveryStatus(decision.status)
        return cls(
            status=status,
            delay_seconds=0.0 if status in FINAL else delay_seconds,
            refunds_attempt=decision.refunds_attempt,
        )


_ACCEPT = _Settling(status=DeliveryStatus.DELIVERED)
_END = _Settling(status=DeliveryStatus.FAILED, refunds_attempt=True)


def _settle(
    connection: Connection,
    claim: Delivery,
    settling: _Settling,
    *,
    error: ImageProcessorError | None = None,
    response_status: int | None = None,
) -> DeliveryStatus | None:
    parameters = {
        "delivery_id": claim.delivery_id,
        "claim_seq": claim.claim_seq,
        "status": settling.status.value,
        "is_final": int(settling.status in FINAL),
        "delay_seconds": settling.delay_seconds,
        "refund": int(settling.refunds_attempt),
        "response_status": response_status,
        "last_error": None if error is None else _clean(error.message),
    }
    status = connection.execute(SETTLE, parameters).scalar_one_or_none()
    return None if status is None else DeliveryStatus(status)


def _find(connection: Connection, delivery_id: str, user_id: str) -> Delivery | None:
    parameters = {"delivery_id": delivery_id, "user_id": user_id}
    row = connection.execute(ONE, parameters).mappings().one_or_none()
    return None if row is None else to_delivery(row)


def to_delivery(row: RowMapping) -> Delivery:
    """The value of a row of `webhook_deliveries`."""
    status = DeliveryStatus(row["status"])
    waits = status in (DeliveryStatus.PENDING, DeliveryStatus.RETRYING)
    return Delivery(
        delivery_id=row["delivery_id"],
        job_id=row["job_id"],
        user_id=row["user_id"],
        url=row["url"],
        event_type=row["event_type"],
        event=json.loads(row["event"]),
        status=status,
        attempt_count=row["attempt_count"],
        claim_seq=row["claim_seq"],
        response_status=row["response_status"],
        last_error=row["last_error"],
        created_at=row["created_at"],
        next_attempt_at=to_iso(row["run_at"]) if waits else None,
        completed_at=row["completed_at"],
    )


def _clean(message: str) -> str:
    """A message of bounded length without control characters: a stranger's server may have shaped it."""
    return _UNPRINTABLE.sub(" ", message)[:MAX_ERROR_LENGTH]
