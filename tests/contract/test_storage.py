"""The storage contract over the storages that need no server."""

import pytest

from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from image_processor.testing.storage_contract import StorageContract


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path_factory):
        return LocalStorage(tmp_path_factory.mktemp("root"))


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        return MemoryStorage()
