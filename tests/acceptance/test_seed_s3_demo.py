"""The seed's demo of S3, to the letter but for its import, on a real server that speaks S3's language."""

import datetime as dt
import hashlib

import httpx
import pytest

from image_processor import ImageProcessor
from image_processor.storage.s3 import client
from image_processor.testing import sample_images

PHOTO = sample_images.photo(640, 480)
DEMO = """
from image_processor.storage import S3Storage

storage = S3Storage(
    bucket="my-images",
    region="us-east-1",
    path_template="processed/{date}/{hash}.{ext}"
)

# Download
image_data = storage.download("s3://my-images/uploads/photo.jpg")

# Upload
output_path = storage.upload(
    processed_image,
    original_name="photo.jpg",
    format="webp",
    metadata={"original_size": "1.2MB", "processed_at": "2024-01-15T10:00:00Z"}
)
# Returns: s3://my-images/processed/2024-01-15/abc123.webp

# Generate presigned URL
url = storage.presigned_url(output_path, expires_in=3600)
# Returns: https://my-images.s3.amazonaws.com/processed/...?X-Amz-Signature=...
"""


@pytest.fixture
def bucket(s3, monkeypatch):
    """The demo's own, with its photo. Variables that boto3 knows lead to the server, and not the demo."""
    s3.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "owner-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "owner-secret")
    monkeypatch.setattr(client, "_clients", {})
    plain = s3.client()
    plain.create_bucket(Bucket="my-images")
    plain.put_object(Bucket="my-images", Key="uploads/photo.jpg", Body=PHOTO)
    return plain


@pytest.mark.slow
def test_the_demo_runs_as_printed(bucket):
    processed_image = ImageProcessor().convert(PHOTO, format="webp")
    names = {"processed_image": processed_image}
    exec(DEMO, names)

    assert names["image_data"] == PHOTO
    today = dt.datetime.now(dt.UTC).date()
    digest = hashlib.sha256(processed_image.data).hexdigest()
    key = f"processed/{today}/{digest}.webp"
    assert names["output_path"] == f"s3://my-images/{key}"
    stored = bucket.head_object(Bucket="my-images", Key=key)
    assert stored["ContentType"] == "image/webp"
    assert stored["Metadata"] == {
        "original_size": "1.2MB",
        "processed_at": "2024-01-15T10:00:00Z",
        "sha256": digest,
    }
    assert "X-Amz-Expires=3600" in names["url"]
    answer = httpx.get(names["url"])
    assert (answer.status_code, answer.content) == (200, processed_image.data)
