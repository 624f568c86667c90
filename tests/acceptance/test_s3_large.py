"""Large objects to S3 and back, with the memory that this takes in a process of its own."""

import json
import os
import subprocess
import sys
from contextlib import closing

import pytest

from running_service import IS_SOAK
from s3_server import OWNER, REGION

pytestmark = pytest.mark.slow

SIZES_MB = [100, 500] if IS_SOAK else [100]
GROWTH_MB = 48
"""What one transfer may add to the peak of its process: two parts of 8 MiB in flight, and the next one."""
PROCESS_SECONDS = 110 * (5 if IS_SOAK else 1)
WORK = """
import hashlib, json, os, re, sys, time
from pathlib import Path
from image_processor.storage.s3 import S3Options, S3Storage

place = json.loads(sys.argv[1])
storage = S3Storage(place["bucket"], options=S3Options(**place["options"]))
block = os.urandom(1 << 20)


def write(path, size_mb):
    with path.open("wb") as file:
        for number in range(size_mb):
            file.write(number.to_bytes(8, "big") + block[8:])


def memory(name):
    return int(re.search(rf"^{name}:\\s+(\\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


def put(key, path):
    return storage.put(key, path, content_type="application/octet-stream").sha256


def get(key, path):
    digest = hashlib.sha256()
    with storage.open(key) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def measured(transfer, *arguments):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    idle, began = memory("VmRSS"), time.monotonic()
    sha256 = transfer(*arguments)
    return {
        "sha256": sha256,
        "growth_mb": round((memory("VmHWM") - idle) / 1024, 1),
        "idle_mb": round(idle / 1024, 1),
        "seconds": round(time.monotonic() - began, 2),
    }


path = Path("source")
for transfer in (put, get):
    write(path, 1)
    transfer("warm", path)
write(path, place["size_mb"])
up, down = measured(put, "large", path), measured(get, "large", path)
with path.open("rb") as file:
    sent = hashlib.file_digest(file, "sha256").hexdigest()
print(json.dumps({"sent": sent, "up": up, "down": down}))
"""


@pytest.mark.timeout(PROCESS_SECONDS + 10)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("size_mb", SIZES_MB)
def test_a_large_object_goes_up_and_down_in_little_memory(s3, s3_bucket, tmp_path, size_mb):
    found = transferred(s3, s3_bucket, tmp_path, size_mb)
    print(f"{size_mb} MiB: {found}")
    assert found["up"].pop("sha256") == found["sent"], "what was stored is what lay there"
    assert found["down"].pop("sha256") == found["sent"], "what came back is what lay there"
    assert found["up"]["growth_mb"] < GROWTH_MB
    assert found["down"]["growth_mb"] < GROWTH_MB
    with closing(s3.client()) as outside:
        stored = outside.head_object(Bucket=s3_bucket, Key="large")
    assert stored["ContentLength"] == size_mb << 20
    assert "-" in stored["ETag"], "it went in parts"


def transferred(s3, bucket, folder, size_mb):
    options = {
        "region": REGION,
        "endpoint_url": s3.url,
        "access_key_id": OWNER["aws_access_key_id"],
        "secret_access_key": OWNER["aws_secret_access_key"],
    }
    order = json.dumps({"bucket": bucket, "options": options, "size_mb": size_mb})
    done = subprocess.run(
        [sys.executable, "-c", WORK, order],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
