"""Fixtures for S3ImageService: a studio on either kind of database."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_processor.jobs.database import Database
from s3_images.studio import Studio


def _migrate(where: Path | str) -> None:
    database = Database.open(where)
    database.migrate()
    database.close()


@pytest.fixture(scope="session")
def s3_images_file(tmp_path_factory) -> Path:
    """A migrated file, to be copied."""
    path = tmp_path_factory.mktemp("s3-images") / "migrated.db"
    _migrate(path)
    return path


@pytest.fixture(scope="session")
def s3_images_url(postgres) -> str:
    """A migrated database on the server; tests know their rows by their buckets, and empty the table."""
    url = postgres.new_database()
    _migrate(url)
    return url


@pytest.fixture
def sqlite_where(s3_images_file, tmp_path) -> Path:
    return Path(shutil.copy(s3_images_file, tmp_path / "processor.db"))


@pytest.fixture
def postgresql_where(s3_images_url) -> Iterator[str]:
    yield s3_images_url
    database = Database.open(s3_images_url)
    with database.write() as connection:
        connection.exec_driver_sql("delete from s3_images")
    database.close()


@pytest.fixture(scope="session")
def buckets(s3) -> tuple[str, str]:
    """Shared by all tests of this folder, each of which finds them empty."""
    s3.start()
    return s3.new_bucket("original"), s3.new_bucket("visualization")


@pytest.fixture(scope="session")
def client(s3) -> Any:
    return s3.client()


@pytest.fixture
def empty_buckets(s3, buckets, client) -> tuple[str, str]:
    s3.start()
    for bucket in buckets:
        for entry in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=entry["Key"])
    return buckets


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request) -> Path | str:
    """What `Database.open` takes; modules to which the kind does not matter have their own."""
    return request.getfixturevalue(f"{request.param}_where")


@pytest.fixture
def studio(s3, where, empty_buckets, client) -> Iterator[Studio]:
    database = Database.open(where)
    yield Studio(s3, where, database, empty_buckets, client)
    database.close()
