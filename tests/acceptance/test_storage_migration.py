"""From local disk to S3 and back: killed on the way, and with a service before and after."""

import hashlib
import os
import random
import subprocess
import sys
import time
import uuid

import pytest

from image_processor.storage.local import LocalStorage
from image_processor.testing import sample_images
from running_service import upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

COMMAND = [sys.executable, "-m", "image_processor", "storage"]
IMAGES = 1000
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.2
"""Between two looks at what another process does."""
REGION = "us-east-1"


@pytest.fixture
def environment(tmp_path, s3, s3_bucket):
    """What a command or a service needs to know of the bucket."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path),
        "S3_BUCKET": s3_bucket,
        "S3_ENDPOINT_URL": s3.url,
        "S3_ADDRESSING_STYLE": "path",
        "AWS_ACCESS_KEY_ID": "owner-key",
        "AWS_SECRET_ACCESS_KEY": "owner-secret",
        "AWS_REGION": REGION,
    }


@pytest.fixture
def command(tmp_path, environment):
    """Starts a command in the test's folder."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process):
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, err


def listed(s3, bucket):
    """Key and size of every object, as a stranger to our code sees them."""
    return found_by(s3.client(), bucket)


def found_by(client, bucket):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", ())}


def fill(folder, count):
    """Small files under keys as the service makes them, put there by other hands; their hashes by key."""
    root = folder / "data" / "storage"
    chance = random.Random(7)
    hashes = {}
    for _ in range(count):
        content = chance.randbytes(chance.randint(100, 3_000))
        key = f"photos/processed/{chance.choice(['thumbnail', 'medium', 'large'])}/{uuid.uuid4()}.webp"
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(content)
        hashes[key] = hashlib.sha256(content).hexdigest()
    return hashes


def test_a_thousand_images_killed_twice_arrive_whole(tmp_path, s3, s3_bucket, command):
    hashes, client = fill(tmp_path, IMAGES), s3.client()
    for share in (1 / 3, 2 / 3):
        process = command("migrate", "--from", "local", "--to", "s3")
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while len(found_by(client, s3_bucket)) < share * IMAGES:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < ends_at
            time.sleep(PAUSE_SECONDS)
        process.kill()
        process.wait()
        assert len(listed(s3, s3_bucket)) < IMAGES
    code, out, err = ended(command("migrate", "--from", "local", "--to", "s3"))
    assert code == 0, err
    assert "all are checked" in out
    assert set(listed(s3, s3_bucket)) == set(hashes)
    for key, sha256 in random.Random(1).sample(sorted(hashes.items()), 100):
        found = client.get_object(Bucket=s3_bucket, Key=key)
        assert hashlib.sha256(found["Body"].read()).hexdigest() == sha256
        assert found["ContentType"] == "image/webp"
    code, out, _ = ended(command("migrate", "--from", "local", "--to", "s3"))
    assert code == 0
    assert out.splitlines()[-1].startswith(f"All is there: {IMAGES:,} objects")


def test_a_service_goes_on_in_s3_under_the_same_addresses(tmp_path, s3, environment, command, start_service):
    service = start_service()
    with service.client() as client:
        jobs = [
            upload(client, sample_images.photo(320 + 10 * n, 240)).raise_for_status().json() for n in range(3)
        ]
        for job in jobs:
            wait_for_result(client, job["job_id"]).raise_for_status()
        before = contents(client, jobs)
    service.stop()
    assert len(before) >= 6
    code, _, err = ended(command("migrate", "--from", "local", "--to", "s3"))
    assert (code, err) == (0, "")
    moved = start_service(environment={**environment, "STORAGE_BACKEND": "s3"})
    with moved.client() as client:
        (tmp_path / "data" / "storage").rename(tmp_path / "old storage")
        assert contents(client, jobs) == before
        job = upload(client, sample_images.photo(200, 150)).raise_for_status().json()
        wait_for_result(client, job["job_id"]).raise_for_status()
    moved.stop()
    environment["STORAGE_BACKEND"] = "s3"
    code, out, err = ended(command("verify", "--deep"))
    assert (code, err) == (0, "")
    assert out.startswith("The storage is whole: 4 images")
    code, _, err = ended(command("migrate", "--from", "s3", "--to", "local"))
    assert (code, err) == (0, "")
    back = LocalStorage(tmp_path / "data" / "storage")
    assert sorted(back.keys("")) == sorted(
        key for key in listed(s3, environment["S3_BUCKET"]) if key.startswith("tests/")
    )


def contents(client, jobs):
    """The bytes behind every address of the images, by address."""
    found = {}
    for job in jobs:
        image = client.get(f"/api/v1/images/{job['image_id']}/all").raise_for_status().json()
        addresses = [url for url in image["urls"].values() if url.startswith("/storage/")]
        addresses.append(f"/api/v1/images/{job['image_id']}/direct")
        for address in addresses:
            answer = client.get(address, follow_redirects=True)
            assert answer.status_code == 200, answer.text
            found[address] = answer.content
    return found
