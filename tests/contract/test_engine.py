"""The engine contract over the fake one, libvips in this process, and libvips in a child."""

import pytest

from image_processor.engine.isolate import IsolatedEngine
from image_processor.engine.vips.engine import VipsEngine
from image_processor.testing.engine_contract import EngineContract
from image_processor.testing.fake_engine import FakeEngine


class TestFakeEngine(EngineContract):
    @pytest.fixture
    def engine(self):
        return FakeEngine()

    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path


class TestVipsEngine(EngineContract):
    @pytest.fixture
    def engine(self):
        return VipsEngine()

    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path


@pytest.mark.slow
class TestIsolatedEngine(EngineContract):
    """One child for all tests, as in life; each test has its own folder below what the child may touch."""

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory):
        return tmp_path_factory.mktemp("isolated")

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, root):
        engine = IsolatedEngine(readable=(root,), writable=(root,))
        yield engine
        engine.close()

    @pytest.fixture
    def folder(self, root, request):
        folder = root / request.node.name
        folder.mkdir()
        return folder
