"""The transport contract over the transports that need no server."""

import pytest

from image_processor.testing.transport_contract import TransportContract
from image_processor.transports.embedded import MAX_HINTS, EmbeddedTransport


class TestEmbeddedTransport(TransportContract):
    @pytest.fixture
    def transport(self):
        return EmbeddedTransport()

    def test_drops_hints_where_nobody_listens(self, transport):
        for number in range(MAX_HINTS + 10):
            transport.publish(f"job-{number}", 1)
        assert transport.depth() == MAX_HINTS

    def test_two_lives_have_two_names(self, transport):
        assert transport.epoch() != EmbeddedTransport().epoch()
