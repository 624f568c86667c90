"""How a service is made: from settings, with a repository of one's own; large files; keys that change."""

import json
import os
import re
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from image_processor.errors import ConfigurationError
from image_processor.s3_images import (
    S3ImagePlaces,
    S3ImageRepository,
    S3ImageService,
    S3ImageTerms,
    S3UploadException,
)
from image_processor.settings import load_settings
from image_processor.storage.s3 import S3Options, S3Storage
from s3_images.studio import PICTURE, SESSION, run
from s3_server import OWNER, READER

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]


@pytest.fixture
def where(sqlite_where):
    return sqlite_where


@pytest.fixture
def environment(s3, buckets, tmp_path, monkeypatch):
    """What an operator sets."""
    variables = {
        "DATA_PATH": str(tmp_path / "data"),
        "S3_ENDPOINT_URL": s3.url,
        "AWS_ACCESS_KEY_ID": OWNER["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": OWNER["aws_secret_access_key"],
        "S3_BUCKET_ORIGINAL": buckets[0],
        "S3_BUCKET_VISUALIZATION": buckets[1],
        "S3_PRESIGNED_URL_EXPIRY_HOURS": "48",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_three_lines_store_an_image(environment, empty_buckets):
    async def three_lines():
        async with S3ImageService.from_settings() as service:
            return await service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"})

    response = run(three_lines())
    assert (response.s3_bucket, response.s3_key_original) == (empty_buckets[0], "session-1/leaf.jpg")
    assert "X-Amz-Expires=172800" in response.presigned_url


def test_the_page_on_it_runs_as_printed(environment, empty_buckets, tmp_path, capsys, client):
    page = (ROOT / "docs" / "howto" / "s3-image-service.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    environment.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(PICTURE)
    exec(compile(example, "example", "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    assert "session-1/photo.jpg\n" in printed
    assert "session-1/viz_photo.jpg\n" in printed
    left = client.list_objects_v2(Bucket=empty_buckets[0]).get("Contents", [])
    assert left == []


def test_a_repository_is_enough(environment, postgres_url):
    repository = S3ImageRepository.open(postgres_url)
    service = S3ImageService(repository)
    assert service.repository is repository
    response = run(service.upload_visualization(PICTURE, SESSION, "alone.jpg"))
    assert run(S3ImageService(repository).delete_image(response.image_id)) is True
    service.close()


def test_the_defaults_are_those_of_the_seed():
    settings = load_settings()
    places, again = S3ImagePlaces.from_settings(settings), S3ImagePlaces.from_settings(load_settings())
    assert (places.original.bucket, places.visualization.bucket) == (
        "demeter-photos-original",
        "demeter-photos-viz",
    )
    assert S3ImageTerms.from_settings(settings) == S3ImageTerms(expiry_hours=24, max_file_bytes=500 * MIB)
    assert (settings.breaker_fail_max, settings.breaker_reset_seconds) == (5, 60)
    assert places.breaker is again.breaker


def test_a_table_that_is_newer_than_the_program_is_refused(studio, sqlite_where):
    studio.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigurationError):
        S3ImageRepository.open(sqlite_where)


@pytest.mark.slow
def test_a_large_file_goes_in_parts_and_is_not_copied_in_memory(studio):
    places = studio.places_at(studio.server.url, multipart_threshold_bytes=8 * MIB)
    service = studio.another(places)
    content = PICTURE + os.urandom(40 * MIB - len(PICTURE))
    tracemalloc.start()
    try:
        response = run(service.upload_original(content, SESSION, {"filename": "large.jpg"}))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 40 * MIB
    etag = studio.client.head_object(Bucket=studio.original, Key=response.s3_key_original)["ETag"]
    assert etag.strip('"').endswith("-5")
    assert run(service.download_original(response.s3_key_original, response.s3_bucket)) == content
    assert run(service.delete_image(response.image_id)) is True
    assert studio.client.list_multipart_uploads(Bucket=studio.original).get("Uploads", []) == []


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """The files in which boto3 looks, and nothing in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def of_a_program(folder, keys):
    """Short-lived ones, as of a role: boto3 asks for others from ten minutes before their end."""
    given, program = folder / "given.json", folder / "give.py"
    program.write_text(f"import sys; sys.stdout.write(open({str(given)!r}).read())")
    command = f"{sys.executable} {program}"
    (folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
    soon = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = {"AccessKeyId": keys["aws_access_key_id"], "SecretAccessKey": keys["aws_secret_access_key"]}
    given.write_text(json.dumps({"Version": 1, "Expiration": soon, **names}))


def of_a_file(folder, keys):
    lines = "\n".join(f"{name} = {value}" for name, value in keys.items())
    (folder / "credentials").write_text(f"[default]\n{lines}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("give", "first"),
    [
        (of_a_program, READER),
        (of_a_file, {"aws_access_key_id": "withdrawn", "aws_secret_access_key": "withdrawn"}),
    ],
)
def test_keys_that_change_need_no_restart(studio, own_files, give, first):
    options = S3Options(endpoint_url=studio.server.url, region=f"test-{give.__name__.replace('_', '-')}")
    original, visualization = (S3Storage(bucket, options=options) for bucket in studio.buckets)
    places = S3ImagePlaces(original=original, visualization=visualization, breaker=studio.breaker)
    service = studio.another(places)
    give(own_files, first)
    with pytest.raises(S3UploadException) as failed:
        run(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
    assert failed.value.details["cause"] in {"storage_denied", "storage_credentials"}
    give(own_files, OWNER)
    response = run(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
    assert httpx.get(response.presigned_url).content == PICTURE
