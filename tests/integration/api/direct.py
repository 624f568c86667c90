"""Direct uploads in an API of this process: to our own signed addresses, or to a real S3."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import httpx
from sqlalchemy import text

from image_processor.api.upload_schemas import PATH
from image_processor.direct_uploads import FOLDER, DirectUploads, sweep
from image_processor.intake.shared_stage import PREFIX
from image_processor.storage.base import Storage
from integration.api.front import Front
from s3_server import OWNER, REGION, S3Server

T = TypeVar("T")


class DirectFront:
    """A front that gives out addresses, and a client that uses them as a stranger would."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.client = front.client
        self._wired = self.uploads

    @property
    def uploads(self) -> DirectUploads:
        uploads = self.front.app.direct_uploads
        assert uploads is not None
        return uploads

    def wire(self, uploads: DirectUploads | None) -> None:
        """Serve these use cases from now on."""
        object.__setattr__(self.front.app, "direct_uploads", uploads)

    def rewire(self, **changes: Any) -> None:
        """The same as at first with other parts."""
        self.wire(replace(self._wired, **changes))

    @property
    def incoming(self) -> Storage:
        return self._wired.incoming

    def sweep(self) -> int:
        return sweep(self.uploads.uploads, self.incoming)

    def opened(self, content: bytes, **fields: Any) -> dict[str, Any]:
        """A ticket for these bytes."""
        answer = open_upload(self.client(), len(content), **fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def send(self, ticket: dict[str, Any], content: bytes) -> httpx.Response:
        """Upload as the ticket says, without a token."""
        with self.client(None) if ticket["url"].startswith("/") else httpx.Client(timeout=30) as client:
            if ticket["method"] == "PUT":
                return client.put(ticket["url"], content=content, headers=ticket["headers"])
            files = {"file": ("a name", content, ticket["fields"]["Content-Type"])}
            return client.post(ticket["url"], data=ticket["fields"], files=files, headers=ticket["headers"])

    def uploaded(self, content: bytes, **fields: Any) -> dict[str, Any]:
        """A ticket whose bytes were sent."""
        ticket = self.opened(content, **fields)
        answer = self.send(ticket, content)
        assert answer.is_success, answer.text
        return ticket

    def complete(self, ticket: dict[str, Any], user: str = "me") -> httpx.Response:
        return self.client(user).post(ticket["complete_url"])

    def state(self, ticket: dict[str, Any]) -> dict[str, Any]:
        answer = self.client().get(f"{PATH}/{ticket['upload_id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def quarantined(self) -> list[str]:
        return [key.removeprefix(f"{FOLDER}/") for key in self.incoming.keys(f"{FOLDER}/")]

    def staged(self) -> list[str]:
        """Wherever originals wait here."""
        shared = [key.removeprefix(PREFIX) for key in self.incoming.keys(PREFIX)]
        return [*self.front.staged(), *shared]

    def jobs(self) -> int:
        with self.front.app.database.read() as connection:
            return connection.execute(text("select count(*) from processing_jobs")).scalar_one()

    def empty(self) -> None:
        """Leave it to the next test as it was found."""
        with self.front.app.database.write() as connection:
            for table in ("direct_uploads", "idempotency_keys", "processing_jobs", "images"):
                connection.execute(text(f"delete from {table}"))
        for upload_id in self.quarantined():
            self.incoming.delete(f"{FOLDER}/{upload_id}")
        for name in self.staged():
            self.front.app.service.stage.remove(name)
        self.rewire()

    def age(self, ticket: dict[str, Any], seconds: float) -> None:
        """Let time go by for one upload."""
        with self.front.app.database.write() as connection:
            connection.execute(
                text(
                    "update direct_uploads set expires_at = expires_at - :seconds,"
                    " purge_at = purge_at - :seconds where upload_id = :upload_id"
                ),
                {"upload_id": ticket["upload_id"], "seconds": seconds},
            )


def open_upload(client: httpx.Client, size: int, **fields: Any) -> httpx.Response:
    given = {"content_type": "image/jpeg", "size_bytes": size, "bucket": "tests"} | fields
    return client.post(PATH, json={name: value for name, value in given.items() if value is not None})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tampered(ticket: dict[str, Any]) -> dict[str, Any]:
    """The same ticket, for more bytes or a longer time than it was given out for."""
    if ticket["method"] == "PUT":
        url = httpx.URL(ticket["url"])
        name = "max_bytes" if ticket["url"].startswith("/") else "X-Amz-Expires"
        return ticket | {"url": str(url.copy_set_param(name, str(int(url.params[name]) + 1)))}
    policy = json.loads(base64.b64decode(ticket["fields"]["policy"]))
    policy["conditions"] = [*policy["conditions"][:-1], ["content-length-range", 1, 10**9]]
    changed = base64.b64encode(json.dumps(policy).encode()).decode()
    return ticket | {"fields": ticket["fields"] | {"policy": changed}}


def wrongly_typed(ticket: dict[str, Any]) -> dict[str, Any]:
    """The same ticket, to be used with another Content-Type."""
    name = "headers" if ticket["method"] == "PUT" else "fields"
    return ticket | {name: ticket[name] | {"Content-Type": "text/html"}}


def s3_settings(server: S3Server, method: str) -> dict[str, Any]:
    """A service that keeps everything in a bucket of that server."""
    server.start()
    return OWNER | {
        "storage_backend": "s3",
        "s3_bucket": server.new_bucket(),
        "s3_endpoint_url": server.url,
        "s3_addressing_style": "path",
        "s3_direct_upload": method,
        "aws_region": REGION,
    }


def at_once(number: int, work: Callable[[], T]) -> list[T]:
    """What the work gives in so many threads that begin together."""
    start = threading.Barrier(number)

    def begin(_number: int) -> T:
        start.wait(20)
        return work()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(begin, range(number)))
