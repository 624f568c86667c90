"""Hints as Celery messages, for workers that Celery runs. What such a worker does with one lies elsewhere."""

import threading
from collections.abc import Collection
from functools import partial
from typing import Any

from image_processor.errors import MissingExtraError, UnavailableError
from image_processor.settings import Settings
from image_processor.transports.base import Hint
from image_processor.transports.bounded import Bounded

try:
    from celery import Celery
    from kombu.entity import Queue

    from image_processor.transports.redis_list import RedisTransport
except (ImportError, MissingExtraError) as error:
    raise MissingExtraError(
        "The queue in Celery needs an optional part: pip install image-processor[celery]."
    ) from error

TASK = "image_processor.run_job"
TASK_MODULE = "image_processor.worker.celery_tasks"
"""Where the task lies: loaded by name, in Celery's workers alone."""
QUEUES = ("high", "normal", "low")
"""By priority; a worker empties the first before it looks into the next."""
PUBLISH_SECONDS = 0.25
"""What a publish may take, with room for a late thread below the 0.3 that are promised."""
ASK_SECONDS = 1.0
STOP_SECONDS = 25.0
"""How long Celery waits at SIGQUIT; our own tasks are handed back before."""

PATIENT = {"socket_connect_timeout": 2.0, "socket_timeout": 5.0}
"""For a worker, which waits for the broker to come back."""
HASTY = {"socket_connect_timeout": 0.2, "socket_timeout": 0.2, "max_retries": 0}
"""For those who submit: the sweeper hints again."""

CONFIGURATION: dict[str, Any] = {
    "task_serializer": "json",
    "accept_content": ["json"],
    # The database gives at-least-once; late acknowledgements would add duplicates and crash loops.
    "task_acks_late": False,
    "task_ignore_result": True,
    "task_publish_retry": False,
    "task_queues": tuple(Queue(name, routing_key=name) for name in QUEUES),  # type: ignore[no-untyped-call]
    "task_default_queue": "normal",
    "task_create_missing_queues": False,
    "task_send_sent_event": True,
    "worker_send_task_events": True,
    # A thread only watches over its decoding process.
    "worker_pool": "threads",
    "worker_prefetch_multiplier": 1,
    # A hint that waits in a busy worker is not seen by an idle one, and is lost with the first.
    "worker_disable_prefetch": True,
    "worker_soft_shutdown_timeout": STOP_SECONDS,
    "worker_hijack_root_logger": False,
    "broker_connection_timeout": 2.0,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
}


def new_celery(settings: Settings, *, patience: dict[str, float]) -> Celery:
    """The Celery application of these settings; it reaches for the broker when it is used."""
    celery = Celery("image_processor", include=[TASK_MODULE], set_as_current=False)
    celery.conf.update(CONFIGURATION)
    celery.conf.update(
        broker_url=broker_url(settings),
        broker_transport_options={
            # The default is round robin, which gives low as many turns as high.
            "queue_order_strategy": "priority",
            "global_keyprefix": key_prefix(settings),
            **patience,
        },
        worker_concurrency=settings.workers,
    )
    return celery


def broker_url(settings: Settings) -> str:
    """Where Celery's messages go."""
    return settings.celery_broker_url or settings.redis_url


def key_prefix(settings: Settings) -> str:
    """What the names of Celery's keys in Redis begin with."""
    return f"{settings.queue_namespace}:celery:"


class CeleryTransport:
    """
    Hints to Celery's workers, which take them by themselves: nobody else receives any.

    Raises ConfigurationError for a URL that is none. No connection is made before one is needed.
    """

    name = "celery"
    is_polling = False

    def __init__(self, settings: Settings) -> None:
        self._celery = new_celery(settings, patience=HASTY)
        # Celery's broker is a Redis like any other: what names its life is asked in the same way.
        self._broker = RedisTransport(broker_url(settings), namespace=f"{settings.queue_namespace}:celery")
        self._publishing = Bounded("publish", seconds=PUBLISH_SECONDS, cool_off_seconds=1.0)
        self._asking = Bounded("ask", seconds=ASK_SECONDS, cool_off_seconds=2.0)
        self._closed = threading.Event()

    def publish(self, job_id: str, priority: int) -> bool:
        """Send the job's task; False where that failed, at once for a second after it did."""
        try:
            self._publishing.call(partial(self._send, job_id, QUEUES[priority]))
        except UnavailableError:
            return False
        return True

    def _send(self, job_id: str, queue: str) -> None:
        self._celery.send_task(
            TASK, args=[job_id], task_id=job_id, queue=queue, ignore_result=True, retry=False
        )

    def receive(self, timeout_seconds: float) -> Hint | None:
        """None, after the time: Celery gives its hints to its own workers."""
        self._closed.wait(timeout_seconds)
        return None

    def depth(self) -> int:
        """How many hints wait, those that a worker holds not counted."""
        return self._asking.call(self._ask_depth)

    def _ask_depth(self) -> int:
        with self._celery.pool.acquire(block=True) as connection:
            client = connection.default_channel.client
            return sum(int(client.llen(queue)) for queue in QUEUES)

    def epoch(self) -> str:
        """Another value after a flush, a restart (whatever it remembers) and a failover."""
        return self._broker.epoch()

    def reclaim(self, living: Collection[str]) -> int:
        """Nothing: a hint is forgotten as soon as it is taken."""
        del living
        return 0

    def close(self) -> None:
        """Give back the connections; who waits in `receive` is let go."""
        self._closed.set()
        for bounded in (self._publishing, self._asking):
            bounded.close()
        self._broker.close()
        self._celery.close()
