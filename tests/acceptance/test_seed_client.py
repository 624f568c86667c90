"""The client of the integration guide, as it is printed there, against a real service."""
# ruff: noqa: RET505, RUF013 - the class below is not ours to change

import asyncio
import json

import httpx
import pytest

from image_processor.testing import sample_images

pytestmark = pytest.mark.slow


# fmt: off
class ImageProcessorClient:
    def __init__(self, base_url: str, jwt_token: str):
        self.base_url = base_url
        self.headers = {"Authorization": f"Bearer {jwt_token}"}

    async def upload_image(
        self,
        file_data: bytes,
        bucket: str,
        metadata: dict = None
    ) -> dict:
        """Upload image and return job info"""
        files = {"file": ("upload.jpg", file_data, "image/jpeg")}
        data = {
            "bucket": bucket,
            "metadata": json.dumps(metadata or {})
        }

        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self.base_url}/api/v1/images/upload",
                files=files,
                data=data,
                headers=self.headers
            )
            response.raise_for_status()
            return response.json()

    async def poll_until_complete(
        self,
        job_id: str,
        max_attempts: int = 30
    ) -> dict:
        """Poll job status until completed"""
        for _ in range(max_attempts):
            async with httpx.AsyncClient() as client:
                response = await client.get(
                    f"{self.base_url}/api/v1/images/jobs/{job_id}/result",
                    headers=self.headers
                )

                if response.status_code == 200:
                    return response.json()
                elif response.status_code == 409:
                    await asyncio.sleep(2)
                    continue
                else:
                    response.raise_for_status()

        raise TimeoutError(f"Job {job_id} did not complete in time")
# fmt: on


@pytest.fixture
def processor(start_service):
    service = start_service()
    return ImageProcessorClient(base_url=service.url, jwt_token=service.token)


def test_upload_and_wait_as_the_guide_does(processor):
    async def use() -> tuple[dict, dict]:
        upload_result = await processor.upload_image(
            file_data=sample_images.photo(width=1500, height=2000),
            bucket="activity-images",
            metadata={"activity_id": "xyz", "user_id": "abc"},
        )
        return upload_result, await processor.poll_until_complete(upload_result["job_id"])

    upload_result, result = asyncio.run(use())
    image_id = upload_result["image_id"]
    assert result["image_id"] == image_id
    assert result["status"] == "completed"
    assert result["urls"]["medium"] == f"/storage/activity-images/processed/medium/{image_id}_medium.webp"
    assert result["metadata"]["original_dimensions"] == {"width": 1500, "height": 2000}
    thumbnail = result["metadata"]["variants"]["thumbnail"]
    assert (thumbnail["width"], thumbnail["height"], thumbnail["aspect_ratio"]) == (150, 200, 0.75)
    assert result["metadata"]["dominant_color"].startswith("#")
    assert httpx.get(processor.base_url + result["urls"]["large"]).raise_for_status().content[8:12] == b"WEBP"


def test_a_job_that_fails_ends_the_waiting_at_once(processor):
    async def use() -> None:
        upload_result = await processor.upload_image(sample_images.truncated_jpeg(), "activity-images")
        await processor.poll_until_complete(upload_result["job_id"])

    with pytest.raises(httpx.HTTPStatusError) as refused:
        asyncio.run(use())
    assert refused.value.response.status_code == 422
    assert refused.value.response.json()["error"]["code"] == "job_failed"


def test_a_file_that_is_no_picture_is_an_error_at_once(processor):
    with pytest.raises(httpx.HTTPStatusError) as refused:
        asyncio.run(processor.upload_image(b"words" * 100, "activity-images"))
    assert refused.value.response.status_code == 415
