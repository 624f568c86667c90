"""Jobs with callbacks on a real database, a way out into this machine, and couriers to send on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from sqlalchemy import text

from image_processor.jobs import Claim, Database, JobRepository, RecoveryRepository, RetryPolicy
from image_processor.jobs.deliveries import Delivery, DeliveryRepository
from image_processor.outbound import Outbound
from image_processor.telemetry import subscribe
from image_processor.webhooks import Courier
from image_processor.worker.courier import Couriers
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts
from webhook_receiver import KEY, PATIENCE_SECONDS

AT_ONCE = RetryPolicy(delays_seconds=(0.0,), snooze_jitter_seconds=0.0)
NOWHERE = "https://example.com/hook"
INTO_THIS_MACHINE = (ip_network("127.0.0.0/8"),)


def urls_of(image_id: str, user_id: str) -> dict[str, str]:
    return {"thumbnail": f"/storage/{user_id}/{image_id}.webp"}


@dataclass
class PostOffice:
    """What a test of callbacks needs."""

    database: Database
    max_retries: int = 3
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self):
        self.jobs = JobRepository(self.database, policy=AT_ONCE, jitter=lambda: 0.0)
        self.recovery = RecoveryRepository(self.database, policy=AT_ONCE)
        self.deliveries = self.deliveries_with(AT_ONCE)
        self._came = threading.Condition()
        self._unsubscribe = subscribe(self._hear)

    def close(self) -> None:
        self._unsubscribe()

    def deliveries_with(self, policy: RetryPolicy) -> DeliveryRepository:
        return DeliveryRepository(
            self.database, policy=policy, max_retries=self.max_retries, jitter=lambda: 0.0
        )

    def claim(self, callback_url: str | None = NOWHERE, **fields: Any) -> Claim:
        """A job with a callback, claimed."""
        receipt = self.jobs.submit(an_upload(callback_url=callback_url, **fields), UNLIMITED)
        claim = self.jobs.claim("worker-1", 60.0, receipt.job_id)
        assert claim is not None
        return claim

    def complete(self, callback_url: str | None = NOWHERE, **fields: Any) -> Claim:
        """A job with a callback, completed."""
        claim = self.claim(callback_url, **fields)
        assert self.jobs.complete(claim, some_facts())
        return claim

    def of(self, job: Claim) -> list[Delivery]:
        return self.deliveries.deliveries(job.job_id, job.user_id)

    def only(self, job: Claim) -> Delivery:
        (delivery,) = self.of(job)
        return delivery

    def execute(self, sql: str, **parameters: Any) -> None:
        """Change rows behind the repositories' back."""
        with self.database.write() as connection:
            connection.execute(text(sql), parameters)

    def end_leases(self) -> None:
        self.execute("update webhook_deliveries set run_at = 0, lease_until = 0 where status = 'delivering'")

    def courier(self, *, outlet: Any = None, key: bytes = KEY, timeout_seconds: float = 10.0) -> Courier:
        return Courier(
            deliveries=self.deliveries,
            outlet=outlet or Outbound(private_networks=INTO_THIS_MACHINE),
            key=key,
            urls_of=urls_of,
            timeout_seconds=timeout_seconds,
        )

    def send_one(self, **options: Any) -> None:
        """One attempt at what is due longest."""
        courier = self.courier(**options)
        claim = self.deliveries.claim(courier.lease_seconds)
        assert claim is not None
        courier.deliver(claim)

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Until it is so; asked anew whenever anything is told."""
        with self._came:
            assert self._came.wait_for(is_so, PATIENCE_SECONDS), self.told

    def told_of(self, event: str) -> list[tuple[str, dict[str, Any]]]:
        return [(name, fields) for name, fields in self.told if name == event]

    def count(self, event: str) -> int:
        return len(self.told_of(event))

    def _hear(self, event: str, fields: dict[str, Any]) -> None:
        with self._came:
            self.told.append((event, fields))
            self._came.notify_all()


@contextmanager
def at_work(*teams: Couriers) -> Iterator[threading.Event]:
    """Couriers that send what is due, each team as that of one process; they stop at the end."""
    stop = threading.Event()
    threads = [threading.Thread(target=team.run, args=(stop,)) for team in teams]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for team, thread in zip(teams, threads, strict=True):
            team._news.set()  # rather than wait for the next poll
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
