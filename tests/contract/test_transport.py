"""The transport contract over the transports that need nothing but themselves, or a Redis."""

import pytest

from image_processor.testing.transport_contract import TransportContract
from image_processor.transports.embedded import MAX_HINTS, EmbeddedTransport
from image_processor.transports.redis_list import RedisTransport


class TestEmbeddedTransport(TransportContract):
    @pytest.fixture
    def transport(self):
        return EmbeddedTransport()

    def test_drops_hints_where_nobody_listens(self, transport):
        published = [transport.publish(f"job-{number}", 1) for number in range(MAX_HINTS + 10)]
        assert published == [True] * MAX_HINTS + [False] * 10
        assert transport.depth() == MAX_HINTS

    def test_two_lives_have_two_names(self, transport):
        assert transport.epoch() != EmbeddedTransport().epoch()


class TestRedisTransport(TransportContract):
    keeps_priorities = True
    keeps_unacknowledged = True

    @pytest.fixture
    def transport(self, redis_url, queue_namespace):
        self.place = {"url": redis_url, "namespace": queue_namespace}
        transport = RedisTransport(**self.place)
        yield transport
        transport.close()

    def survivor_of(self, transport):
        return RedisTransport(**self.place)
