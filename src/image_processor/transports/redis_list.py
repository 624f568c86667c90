"""The transport over lists in Redis 6.2 or later, or Valkey. Only this module knows the client library."""

import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar, cast

from image_processor.errors import ConfigurationError, MissingExtraError, UnavailableError
from image_processor.telemetry import emit
from image_processor.transports.base import Hint
from image_processor.transports.bounded import Bounded
from image_processor.transports.redis_keys import MAX_TOKENS, PUT_BACK, TAKE, Keys, entry_of, job_id_of

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError, ResponseError
    from redis.retry import Retry
except ModuleNotFoundError as absence:
    _absence: ModuleNotFoundError | None = absence
else:
    _absence = None

T = TypeVar("T")
PUBLISH_SECONDS = 0.25
"""What a publish may take, with room for a late thread below the 0.3 that are promised."""
ASK_SECONDS = 1.0
CONNECT_SECONDS = 2.0
MIN_CONNECT_SECONDS = 0.3
"""A receiver that hardly waits must be able to connect all the same."""
REPLY_SECONDS = 1.0
"""How much longer than a blocking call was to take its reply is waited for."""
MIN_WAIT_SECONDS = 0.001
"""A blocking call with 0 would wait for ever."""
CLOSE_SECONDS = 2.0
FAREWELL_SECONDS = 60
"""How long the tokens that wake a worker's own receivers are kept, should none take them."""


class RedisTransport:
    """
    Three lists of hints by priority, and for each worker a list of what it has in progress.

    No connection is made before one is needed. Raises ConfigurationError for a URL that is none, and
    MissingExtraError without the extra `redis`.
    """

    name = "redis"
    is_polling = False

    def __init__(self, url: str, *, namespace: str, worker_id: str | None = None) -> None:
        if _absence is not None:
            message = "The queue in Redis needs an optional part: pip install image-processor[redis]."
            raise MissingExtraError(message) from _absence
        self._worker_id = worker_id or str(uuid.uuid4())
        self._keys = Keys(namespace)
        self._publisher = _client(url, connect_seconds=PUBLISH_SECONDS, reply_seconds=PUBLISH_SECONDS)
        self._asker = _client(url, connect_seconds=ASK_SECONDS, reply_seconds=ASK_SECONDS)
        self._new_connection = _connections(url)
        self._publishing = Bounded("publish", seconds=PUBLISH_SECONDS, cool_off_seconds=1.0)
        self._asking = Bounded("ask", seconds=ASK_SECONDS, cool_off_seconds=2.0)
        self._connecting = Bounded("connect", seconds=CONNECT_SECONDS, cool_off_seconds=0.5)
        self._closed = threading.Event()
        self._threads = threading.local()
        self._receivers: weakref.WeakSet[_Receiver] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._held: Counter[bytes] = Counter()
        self._may_have_strays = False
        """Whether our list in Redis may hold entries that nobody here knows of."""
        self._has_checked_settings = False

    def publish(self, job_id: str, priority: int) -> bool:
        """Hint that a job is due; False where that failed, at once for a second after it did."""
        level, entry = entry_of(job_id, priority)
        try:
            self._publishing.call(
                _anew(self._publisher, partial(self._push, self._keys.queues[level], entry))
            )
        except UnavailableError:
            return False
        return True

    def _push(self, queue: str, entry: bytes) -> None:
        with self._publisher.pipeline(transaction=True) as pipeline:
            pipeline.lpush(queue, entry)
            pipeline.lpush(self._keys.wake, 1)
            pipeline.ltrim(self._keys.wake, 0, MAX_TOKENS - 1)
            pipeline.execute()

    def receive(self, timeout_seconds: float) -> Hint | None:
        """The next hint, the best priority first; None when there was none within the time."""
        ends_at = time.monotonic() + timeout_seconds
        receiver = self._receiver()
        with receiver.lock:
            try:
                return self._next_of_living(receiver, ends_at)
            except (UnavailableError, RedisError, OSError) as error:
                receiver.disconnect()
                if not isinstance(error, UnavailableError):
                    emit("transport.receive.failed", error=f"{type(error).__name__}: {error}")
                self._closed.wait(max(0.0, ends_at - time.monotonic()))
                return None
            finally:
                if self._closed.is_set():
                    receiver.disconnect()

    def _next_of_living(self, receiver: "_Receiver", ends_at: float) -> Hint | None:
        """The next hint; servers end connections that were idle for long, so a new one is tried at once."""
        if receiver.is_open:
            try:
                return self._next_hint(receiver, ends_at)
            except (RedisError, OSError):
                receiver.disconnect()
            if time.monotonic() >= ends_at:
                return None
        return self._next_hint(receiver, ends_at)

    def _receiver(self) -> "_Receiver":
        """This thread's own."""
        receiver: _Receiver | None = getattr(self._threads, "receiver", None)
        if receiver is None:
            receiver = self._threads.receiver = _Receiver(self._new_connection, self._connecting)
            with self._lock:
                self._receivers.add(receiver)
        return receiver

    def _next_hint(self, receiver: "_Receiver", ends_at: float) -> Hint | None:
        while not self._closed.is_set():
            receiver.connect(ends_at)
            self._put_back_strays(receiver)
            entry = self._take(receiver)
            if entry is not None:
                hint = self._hint(entry)
                if hint is not None:
                    return hint
            elif time.monotonic() >= ends_at:
                return None
            else:
                receiver.wait((self._keys.wake, self._keys.wake_of(self._worker_id)), ends_at)
        return None

    def _take(self, receiver: "_Receiver") -> bytes | None:
        keys = self._keys.of_scripts(self._worker_id)
        try:
            entry = cast("bytes | None", receiver.ask("EVAL", TAKE, len(keys), *keys, self._worker_id))
        except (RedisError, OSError):
            # It may have been taken, and the reply lost.
            self._may_have_strays = True
            raise
        if entry is not None:
            with self._lock:
                self._held[entry] += 1
        return entry

    def _hint(self, entry: bytes) -> Hint | None:
        job_id = job_id_of(entry)
        if job_id is None:
            emit("transport.hint.refused", entry=repr(entry[:80]))
            self._acknowledge(entry)
            return None
        return Hint(job_id, partial(self._acknowledge, entry))

    def _acknowledge(self, entry: bytes) -> None:
        with self._lock:
            self._held[entry] -= 1
            if self._held[entry] <= 0:
                del self._held[entry]
        try:
            self._publishing.call(_anew(self._publisher, partial(self._remove, entry)))
        except UnavailableError:
            self._may_have_strays = True

    def _remove(self, entry: bytes) -> None:
        self._publisher.lrem(self._keys.in_progress(self._worker_id), 1, cast("str", entry))

    def _put_back_strays(self, receiver: "_Receiver") -> None:
        """Put back what was taken for nobody, and perhaps what another thread is just being told of."""
        if not self._may_have_strays:
            return
        with self._lock:
            self._may_have_strays = False
            held = list(self._held.elements())
        keys = self._keys.of_scripts(self._worker_id)
        try:
            receiver.ask("EVAL", PUT_BACK, len(keys), *keys, self._worker_id, *held)
        except (RedisError, OSError):
            self._may_have_strays = True
            raise

    def depth(self) -> int:
        """How many hints wait, those in progress not counted."""
        return self._asking.call(_anew(self._asker, self._ask_depth))

    def _ask_depth(self) -> int:
        with self._asker.pipeline(transaction=False) as pipeline:
            for queue in self._keys.queues:
                pipeline.llen(queue)
            return sum(pipeline.execute())

    def epoch(self) -> str:
        """Another value after a flush, a restart (whatever it remembers) and a failover."""
        return self._asking.call(_anew(self._asker, self._ask_epoch))

    def _ask_epoch(self) -> str:
        with self._asker.pipeline(transaction=False) as pipeline:
            pipeline.set(self._keys.epoch, uuid.uuid4().hex, nx=True)
            pipeline.get(self._keys.epoch)
            epoch = cast("bytes", pipeline.execute()[1])
        if not self._has_checked_settings:
            self._check_settings()
        return f"{self._info('server').get('run_id', '')}:{epoch.decode()}"

    def _info(self, section: str) -> dict[str, Any]:
        """Nothing where the broker does not tell."""
        try:
            return dict(self._asker.info(section))
        except ResponseError:
            return {}

    def _check_settings(self) -> None:
        policy = self._info("memory").get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            emit("transport.settings.warning", setting="maxmemory-policy", value=policy, wanted="noeviction")
        self._has_checked_settings = True

    def reclaim(self, living: Collection[str]) -> int:
        """Put back the hints of workers other than these, where they are taken next; gives how many."""
        work = partial(self._put_back_of_dead, frozenset(living) | {self._worker_id})
        return self._asking.call(_anew(self._asker, work))

    def _put_back_of_dead(self, living: frozenset[str]) -> int:
        known = cast("set[bytes]", self._asker.smembers(self._keys.workers))
        dead = {worker.decode(errors="replace") for worker in known} - living
        return sum(self._put_back_all(worker_id) for worker_id in dead)

    def _put_back_all(self, worker_id: str) -> int:
        keys = self._keys.of_scripts(worker_id)
        return cast("int", self._asker.eval(PUT_BACK, len(keys), *keys, worker_id))

    def close(self) -> None:
        """Wake who waits and end every connection; what is in progress stays so until it is reclaimed."""
        self._closed.set()
        with self._lock:
            receivers = list(self._receivers)
        if any(receiver.lock.locked() for receiver in receivers):
            self._wake_own(len(receivers))
        for bounded in (self._connecting, self._publishing, self._asking):
            bounded.close()
        ends_at = time.monotonic() + CLOSE_SECONDS
        for receiver in receivers:
            receiver.close(ends_at)
        self._publisher.close()
        self._asker.close()

    def _wake_own(self, count: int) -> None:
        key = self._keys.wake_of(self._worker_id)

        def push() -> None:
            with self._publisher.pipeline(transaction=True) as pipeline:
                pipeline.lpush(key, *([1] * count))
                pipeline.expire(key, FAREWELL_SECONDS)
                pipeline.execute()

        try:
            self._publishing.call(push)
        except UnavailableError:
            emit("transport.close.failed", waiting=count)


class _Receiver:
    """One thread's own connection, on which it may wait for long."""

    def __init__(self, new_connection: Any, connecting: Bounded) -> None:
        self._new_connection = new_connection
        self._connecting = connecting
        self._connection: Any = None
        self.lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, dead or alive."""
        return self._connection is not None

    def connect(self, ends_at: float) -> None:
        """Raises UnavailableError where that does not come about in the time."""
        if not self.is_open:
            seconds = min(max(ends_at - time.monotonic(), MIN_CONNECT_SECONDS), CONNECT_SECONDS)
            self._connection = self._connecting.call(
                self._connected, seconds=seconds, undo=lambda late: late.disconnect()
            )

    def _connected(self) -> Any:
        connection = self._new_connection()
        connection.connect()
        return connection

    def ask(self, *command: object, seconds: float = 0.0) -> object:
        """The reply to one command that takes so many seconds; later than soon after that it is given up."""
        self._connection.send_command(*command)
        if not self._connection.can_read(timeout=seconds + REPLY_SECONDS):
            raise TimeoutError("No reply came.")
        return cast("object", self._connection.read_response())

    def wait(self, keys: tuple[str, ...], ends_at: float) -> None:
        """Until a token comes."""
        seconds = max(ends_at - time.monotonic(), MIN_WAIT_SECONDS)
        self.ask("BLPOP", *keys, f"{seconds:.3f}", seconds=seconds)

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def close(self, ends_at: float) -> None:
        """Unless its thread uses it until then, and will do this itself."""
        if self.lock.acquire(timeout=max(0.0, ends_at - time.monotonic())):
            self.disconnect()
            self.lock.release()


def _options(connect_seconds: float, reply_seconds: float) -> dict[str, Any]:
    return {
        "socket_connect_timeout": connect_seconds,
        "socket_timeout": reply_seconds,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _client(url: str, *, connect_seconds: float, reply_seconds: float) -> "redis.Redis":
    try:
        return redis.Redis.from_url(url, **_options(connect_seconds, reply_seconds))
    except ValueError as error:
        # Its own words could show a part of the password.
        raise ConfigurationError(
            "REDIS_URL is no URL of a Redis server: redis://, rediss:// or unix://."
        ) from error


def _anew(client: "redis.Redis", work: Callable[[], T]) -> Callable[[], T]:
    """The work; after a failure on a new connection, as the old one may lead to what is a replica now."""

    def run() -> T:
        try:
            return work()
        except RedisError:
            client.connection_pool.disconnect()
            raise

    return run


def _connections(url: str) -> Any:
    pool = redis.ConnectionPool.from_url(url, **_options(CONNECT_SECONDS, REPLY_SECONDS))
    return partial(pool.connection_class, **pool.connection_kwargs)
