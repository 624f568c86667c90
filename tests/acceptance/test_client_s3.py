"""The client where the service keeps everything in S3: uploads go to an address that the service signed."""

import pytest

from image_processor.client import ImageProcessorClient
from image_processor.testing import sample_images
from s3_server import OWNER, REGION

pytestmark = pytest.mark.slow

PICTURE = sample_images.photo(width=450, height=600)


def test_bytes_go_straight_to_the_storage(start_service, s3, s3_bucket):
    environment = {
        "STORAGE_BACKEND": "s3",
        "S3_BUCKET": s3_bucket,
        "S3_ENDPOINT_URL": s3.url,
        "AWS_REGION": REGION,
        **{name.upper(): value for name, value in OWNER.items()},
    }
    service = start_service(environment=environment)
    with ImageProcessorClient(service.url, service.token) as client:
        ticket = client.open_upload(content_type="image/jpeg", size_bytes=len(PICTURE), bucket="client")
        assert (ticket.method, ticket.url.startswith(s3.url)) == ("POST", True)
        sent = []
        receipt = client.upload_directly(
            PICTURE, bucket="client", preset="avatar", on_progress=lambda *so_far: sent.append(so_far)
        )
        assert sent[-1] == (len(PICTURE), len(PICTURE))
        assert client.wait(receipt.job_id, timeout=90).image_id == receipt.image_id
        name = next(iter(client.urls(receipt.image_id)))
        data = client.download(receipt.image_id, name)
        assert len(data) == client.image(receipt.image_id, name).size_bytes
