"""The transport contract over Celery's messages, taken as a worker takes them; and brokers that fail."""

import json
import subprocess
import sys
import threading
import time
from base64 import b64decode

import pytest
import redis

from fault_proxy import FaultProxy, Mode
from image_processor.errors import UnavailableError
from image_processor.settings import load_settings
from image_processor.testing.transport_contract import PUBLISH_SECONDS, TransportContract
from image_processor.transports.base import Hint
from image_processor.transports.celery_app import app
from image_processor.transports.celery_queue import QUEUES, CeleryTransport, key_prefix

LOOK_SECONDS = 0.005


class PlayedWorker(CeleryTransport):
    """Takes the messages that a real worker would."""

    def __init__(self, settings):
        super().__init__(settings)
        self._client = redis.Redis.from_url(settings.redis_url)
        self._keys = [f"{key_prefix(settings)}{queue}" for queue in QUEUES]
        self._looking = threading.Lock()

    def receive(self, timeout_seconds):
        ends_at = time.monotonic() + timeout_seconds
        while not (message := self._next()):
            left = ends_at - time.monotonic()
            if left <= 0 or self._closed.wait(min(LOOK_SECONDS, left)):
                return None
        arguments, _, _ = json.loads(b64decode(message["body"]))
        assert [message["headers"]["id"]] == arguments
        assert message["headers"]["task"] == "image_processor.run_job"
        return Hint(arguments[0])

    def _next(self):
        with self._looking:
            if self._closed.is_set():
                return None
            messages = (self._client.rpop(key) for key in self._keys)
            return next((json.loads(message) for message in messages if message), None)

    def close(self):
        super().close()
        with self._looking:
            self._client.close()


@pytest.fixture
def settings(redis_url, queue_namespace):
    return load_settings(queue_backend="celery", redis_url=redis_url, queue_namespace=queue_namespace)


class TestCeleryTransport(TransportContract):
    keeps_priorities = True

    @pytest.fixture
    def transport(self, settings):
        transport = PlayedWorker(settings)
        yield transport
        transport.close()

    @pytest.mark.slow
    def test_publishing_neither_raises_nor_waits_however_much_is_published(self, transport):
        super().test_publishing_neither_raises_nor_waits_however_much_is_published(transport)

    def test_a_flushed_broker_lives_anew(self, transport, valkey):
        epoch = transport.epoch()
        valkey.flush()
        assert transport.epoch() != epoch


@pytest.mark.parametrize("mode", list(Mode))
def test_a_broker_that_fails_costs_no_publisher_more_than_the_bound(settings, valkey, mode):
    with FaultProxy(valkey.port, delay_seconds=0.15) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        transport = CeleryTransport(settings.model_copy(update={"celery_broker_url": url}))
        assert transport.publish("warm", 1)
        proxy.mode = mode
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            is_published = transport.publish("job-1", 1)
            seconds.append(time.monotonic() - started)
        if mode in {Mode.REFUSE, Mode.BLACK_HOLE, Mode.RESET}:
            assert not is_published
            with pytest.raises(UnavailableError):
                transport.depth()
        transport.close()
        assert max(seconds) < PUBLISH_SECONDS


def test_receives_nothing_itself(settings):
    transport = CeleryTransport(settings)
    transport.publish("job-1", 1)
    assert transport.receive(0.01) is None
    assert transport.depth() == 1
    transport.close()


def test_the_worker_is_configured_as_the_design_says():
    assert app.conf.task_acks_late is False
    assert app.conf.worker_pool == "threads"
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"
    assert [queue.name for queue in app.conf.task_queues] == list(QUEUES)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_without_celery_the_extra_is_named():
    done = run("import sys; sys.modules['celery'] = None; import image_processor.transports.celery_app")
    assert "MissingExtraError" in done.stderr
    assert "pip install image-processor[celery]" in done.stderr


@pytest.mark.slow
def test_a_celery_worker_cannot_decode():
    done = run("import image_processor.worker.celery_tasks, sys; print(*sys.modules)")
    loaded = set(done.stdout.split())
    assert "image_processor.runner" in loaded
    assert loaded.isdisjoint({"pyvips", "PIL", "numpy"})


@pytest.mark.slow
def test_the_application_alone_loads_no_worker():
    done = run("import image_processor.transports.celery_app, sys; print(*sys.modules)")
    loaded = set(done.stdout.split())
    assert "celery" in loaded
    assert loaded.isdisjoint({"image_processor.worker", "image_processor.bootstrap", "pyvips"})
