"""A backup taken while people upload, and a service that goes on from it in another folder."""

import json
import os
import subprocess
import sys
import threading

import pytest

from image_processor.testing import sample_images
from running_service import Service, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PATIENCE_SECONDS = 60
WAITING = 4
"""So many uploads wait for their worker at any moment."""
MOST = 24


def run(folder, *arguments):
    """A command, as cron runs it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "image_processor", *map(str, arguments)],
        cwd=folder,
        env=kept | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def addresses(client, job_id):
    answer = wait_for_result(client, job_id).raise_for_status().json()
    return sorted(answer["urls"].values())


def test_a_backup_taken_while_people_upload_goes_on_elsewhere(tmp_path, start_service):
    service = start_service()
    stop, accepted = threading.Event(), []

    def people():
        with service.client() as client:
            while not stop.is_set() and len(accepted) < MOST:
                picture = sample_images.photo(200 + len(accepted), 150)
                accepted.append(upload(client, picture).raise_for_status().json()["job_id"])
                wait_for_result(client, accepted[-WAITING:][0])

    uploading = threading.Thread(target=people)
    uploading.start()
    try:
        service.wait_for(lambda: len(accepted) > WAITING, "uploads")
        backup = tmp_path / "backups" / "now"
        made = run(tmp_path, "backup", backup, "--files")
    finally:
        stop.set()
        uploading.join(PATIENCE_SECONDS)
    assert (made.returncode, made.stderr) == (0, "")
    in_use = run(tmp_path, "restore", backup, "--force")
    assert in_use.returncode == 2
    assert "stop the service" in in_use.stderr

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    put = run(elsewhere, "restore", backup)
    assert (put.returncode, put.stderr) == (0, "")
    assert "The storage is whole" in put.stdout
    (elsewhere / "data" / "development-secret").write_bytes(
        (tmp_path / "data" / "development-secret").read_bytes()
    )
    other = Service(elsewhere)
    try:
        other.start()
        held = [job_id for (job_id,) in other.rows("select job_id from processing_jobs")]
        assert len(held) == json.loads((backup / "manifest.json").read_text())["rows"]["processing_jobs"]
        assert set(held) <= set(accepted)
        with service.client() as here, other.client() as there:
            for job_id in held:
                same = addresses(there, job_id)
                assert same == addresses(here, job_id)
                assert there.get(same[0]).raise_for_status().content == here.get(same[0]).content
    finally:
        other.stop()
