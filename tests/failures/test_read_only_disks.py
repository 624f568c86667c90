"""A disk that turns read-only, as one does after errors: it serves what it has, and jobs wait for it."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from image_processor.errors import StorageReadOnlyError
from image_processor.jobs import Status
from image_processor.jobs.retry import History, RetryPolicy
from image_processor.storage.local import LocalStorage
from image_processor.testing import sample_images
from running_service import upload, wait_for_result

pytestmark = pytest.mark.slow


class Disk:
    """A file system of its own that can be made read-only."""

    def __init__(self, folder):
        self.folder = folder

    @contextmanager
    def read_only(self):
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)

    def files(self):
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount the disk that this makes read-only")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"bytes")
    return path


def test_a_storage_that_turns_read_only_is_read_and_says_so_of_what_it_cannot_do(disk, source):
    storage = LocalStorage(disk.folder)
    storage.put("a/old.bin", source, content_type="application/octet-stream")
    with disk.read_only():
        for change in (
            lambda: storage.put("a/old.bin", source, content_type="application/octet-stream"),
            lambda: storage.put("b/new.bin", source, content_type="application/octet-stream"),
            lambda: storage.delete("a/old.bin"),
        ):
            with pytest.raises(StorageReadOnlyError, match=r"^The storage is read-only: ") as caught:
                change()
            decision = RetryPolicy().decide(caught.value, History(attempt=4, max_retries=3))
            assert (decision.status, decision.refunds_attempt) == (Status.RETRYING, True)
        with storage.open("a/old.bin") as file:
            assert file.read() == b"bytes"
        assert storage.stat("a/old.bin").size_bytes == 5
        assert list(storage.keys("")) == ["a/old.bin"]
        storage.check()
    assert disk.files() == ["old.bin"]
    storage.put("b/new.bin", source, content_type="application/octet-stream")
    assert set(storage.keys("")) == {"a/old.bin", "b/new.bin"}


def test_a_service_whose_storage_turns_read_only_serves_waits_and_goes_on(disk, start_service):
    own = {"STORAGE_PATH": str(disk.folder), "MIN_FREE_DISK_MB": "4", "LOG_FORMAT": "json"}
    service = start_service(environment=own)
    picture = sample_images.photo(640, 480)
    with service.client() as client:
        before = upload(client, picture).json()["job_id"]
        addresses = wait_for_result(client, before).json()["urls"].values()
        with disk.read_only():
            during = upload(client, picture)
            assert during.status_code == 202, "the stage is on another disk"
            job_id = during.json()["job_id"]
            service.wait_for(lambda: "job.retried" in "".join(service.log), "the job to be put off")
            status = client.get(f"/api/v1/images/jobs/{job_id}").json()
            assert (status["status"], status.get("attempt_count", 0)) == ("retrying", 0), status
            assert all(client.get(address).status_code == 200 for address in addresses)
        service.execute("update processing_jobs set run_at = 0 where status = 'retrying'")
        assert wait_for_result(client, job_id).status_code == 200
    assert not [name for name in disk.files() if name.endswith(".part")]
