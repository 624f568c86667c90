"""Jobs from `s3://` to `s3://`, on a real server: what arrives, what is refused, and what waits."""

import io

import httpx
import pytest
from PIL import Image

from image_processor.errors import (
    BucketMissingError,
    SourceNotFoundError,
    StorageCredentialsError,
    StorageDeniedError,
)
from image_processor.locations import Locations
from image_processor.outbound import Outbound
from image_processor.storage import S3Options, S3Storage
from image_processor.storage.buckets import Buckets
from image_processor.storage.memory import MemoryStorage
from image_processor.testing import sample_images
from running_service import Service
from s3_server import OWNER, READER

pytestmark = pytest.mark.slow

PHOTO = sample_images.photo(400, 300)


def fetched(locations, uri):
    with locations.fetch(uri, max_bytes=10_000_000) as chunks:
        return b"".join(chunks)


@pytest.fixture
def new_locations(s3):
    def new(bucket, credentials=OWNER):
        options = S3Options(
            region="us-east-1",
            endpoint_url=s3.url,
            access_key_id=credentials["aws_access_key_id"],
            secret_access_key=credentials["aws_secret_access_key"],
        )
        buckets = Buckets((bucket,), ("own",), lambda name: S3Storage(name, options=options))
        return Locations(file_roots=(), outbound=Outbound(), buckets=buckets, fetch_timeout_seconds=20)

    return new


def test_a_missing_object_is_rejected_and_the_operators_mistakes_wait(s3, new_locations):
    readable, closed = s3.new_bucket("readable"), s3.new_bucket("closed")
    for bucket in (readable, closed):
        s3.client().put_object(Bucket=bucket, Key="a.jpg", Body=PHOTO)
    assert fetched(new_locations(readable, READER), f"s3://{readable}/a.jpg") == PHOTO
    with pytest.raises(SourceNotFoundError):
        fetched(new_locations(readable, READER), f"s3://{readable}/b.jpg")
    with pytest.raises(StorageDeniedError):
        fetched(new_locations(closed, READER), f"s3://{closed}/a.jpg")
    with pytest.raises(BucketMissingError):
        fetched(new_locations("absent-bucket"), "s3://absent-bucket/a.jpg")
    wrong = {**OWNER, "aws_secret_access_key": "wrong"}
    with pytest.raises(StorageCredentialsError):
        fetched(new_locations(readable, wrong), f"s3://{readable}/a.jpg")


def test_an_object_that_is_closed_to_us_in_an_open_bucket_is_rejected():
    class Closed(MemoryStorage):
        def open(self, key):
            raise StorageDeniedError("The storage refuses us access.")

    locations = Locations(
        file_roots=(), outbound=Outbound(), buckets=lambda _name: Closed(), fetch_timeout_seconds=20
    )
    with pytest.raises(SourceNotFoundError, match="not one that is given"):
        fetched(locations, "s3://photos/a.jpg")


class Client:
    """Somebody who submits jobs."""

    def __init__(self, service):
        self._service = service
        self._http = httpx.Client(base_url=service.url, timeout=20)

    def submit(self, **asked):
        answer = self._http.post("/jobs", json={"operations": [{"op": "resize", "width": 80}]} | asked)
        return answer.status_code, answer.json()

    def outcome(self, job_id):
        def job():
            return self._http.get(f"/jobs/{job_id}").json()

        self._service.wait_for(lambda: job()["status"] in ("completed", "failed"), f"job {job_id}")
        return job()

    def close(self):
        self._http.close()


def test_jobs_go_from_bucket_to_bucket_and_never_into_our_own(s3, start_service):
    incoming, outgoing, own = (s3.new_bucket(name) for name in ("incoming", "outgoing", "own"))
    s3.client().put_object(Bucket=incoming, Key="in/a.jpg", Body=PHOTO)
    service: Service = start_service(
        environment={
            "AUTH_REQUIRED": "false",
            "STORAGE_BACKEND": "s3",
            "S3_BUCKET": own,
            "S3_JOB_BUCKETS": f"{incoming},{outgoing}",
            "S3_ENDPOINT_URL": s3.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "owner-key",
            "AWS_SECRET_ACCESS_KEY": "owner-secret",
        }
    )
    client = Client(service)
    output = f"s3://{outgoing}/out/a.jpg"

    status, answer = client.submit(input=f"s3://{incoming}/in/a.jpg", output=output)
    assert (status, answer["status"]) == (202, "queued")
    done = client.outcome(answer["job_id"])
    assert (done["status"], done["output"]) == ("completed", output)
    stored = s3.client().get_object(Bucket=outgoing, Key="out/a.jpg")
    with Image.open(io.BytesIO(stored["Body"].read())) as made:
        assert (made.format, made.size) == ("JPEG", (80, 60))
    assert stored["ContentType"] == "image/jpeg"
    # Its owner may replace it: unlike our own keys it is no place for a header that says "immutable".
    assert "CacheControl" not in stored

    status, answer = client.submit(input=f"s3://{incoming}/absent.jpg", output=output)
    failed = client.outcome(answer["job_id"])
    assert (failed["status"], failed["reason"]) == ("failed", "rejected")

    for uris in (
        {"input": f"s3://{own}/a.jpg", "output": output},
        {"input": f"s3://{incoming}/in/a.jpg", "output": f"s3://{own}/a.jpg"},
        {"input": "s3://others/a.jpg", "output": output},
        {"input": f"s3://{incoming}/../{own}/a.jpg", "output": output},
    ):
        status, answer = client.submit(**uris)
        assert status == 422
    client.close()
