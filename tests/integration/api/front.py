"""The HTTP front in this process, over a real database and disk, with a worker that works when told to."""

import asyncio
import functools
import io
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import jwt
from fastapi import FastAPI
from PIL import Image

from image_processor.api.app import create_app
from image_processor.bootstrap import App, WorkerParts, build_app, build_worker
from image_processor.engine.base import Engine
from image_processor.engine.vips.engine import VipsEngine
from image_processor.settings import load_settings
from image_processor.worker.heartbeat import LeaseKeeper
from image_processor.worker.slot import Slot
from image_processor.worker.stall import StallDetector
from integration.api.announced import Announced
from migrated import put_migrated

SECRET = "a secret of the tests, as long as it has to be"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@functools.cache
def picture(size: tuple[int, int] = (640, 480), kind: str = "JPEG", **options: Any) -> bytes:
    """A picture of two colours, coded."""
    image = Image.new("RGB", size, "#3a5f8c")
    image.paste("#c08040", (0, 0, size[0] // 3, size[1] // 3))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def broken_picture() -> bytes:
    """A JPEG whose second half is missing: its header is sound."""
    content = picture((800, 600))
    return content[: len(content) // 2]


def token(user: str = "me", **claims: Any) -> str:
    return jwt.encode({"sub": user, **claims}, SECRET, "HS256")


class AsItIsRead(httpx.AsyncByteStream):
    """A body that is made no sooner than the application reads it."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._body:
            yield chunk


class InProcess(httpx.BaseTransport):
    """Answers requests with an application of this process; its unforeseen errors are raised here as well."""

    def __init__(self, api: FastAPI, *, raises: bool = True) -> None:
        self._transport = httpx.ASGITransport(api, raise_app_exceptions=raises)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        stream = AsItIsRead(request.stream)
        answer = await self._transport.handle_async_request(
            httpx.Request(request.method, request.url, headers=request.headers, stream=stream)
        )
        content = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)


@dataclass
class Front:
    """An API with its worker, and what a user of it needs. Every answer is checked against the schema."""

    folder: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    schema: ClassVar[dict[str, Any]] = {}
    """It takes a while to write, and is the same for all settings."""

    def __post_init__(self) -> None:
        given = {"data_path": self.folder / "data", "jwt_secret_key": SECRET, "min_free_disk_mb": 0}
        self.settings = load_settings(**{**given, **self.overrides})
        if not self.settings.database_url:
            put_migrated(self.settings.database)
        self.app: App = build_app(self.settings)
        self.worker: WorkerParts = build_worker(self.settings)
        self.api: FastAPI = create_app(self.app)
        Front.schema = Front.schema or self.api.openapi()
        self.announced = Announced(Front.schema)
        self.engine: Engine = VipsEngine()
        self.slot = self._new_slot()

    def _new_slot(self) -> Slot:
        parts = self.worker
        return Slot(
            worker_id="worker-1",
            jobs=parts.jobs,
            dispatch=parts.dispatch,
            stall=StallDetector(parts.dispatch, transport=parts.transport.name, stall_seconds=60),
            transport=parts.transport,
            runner=parts.runner,
            leases=LeaseKeeper(parts.jobs, lease_seconds=30),
            new_engine=parts.new_engine,
            lease_seconds=30,
            poll_seconds=0.1,
        )

    def client(self, user: str | None = "me", *, raises: bool = True, **claims: Any) -> httpx.Client:
        """A client of that user, with more claims in its token; of nobody for None."""
        return httpx.Client(
            transport=InProcess(self.api, raises=raises),
            base_url="http://testserver",
            headers={} if user is None else {"Authorization": f"Bearer {token(user, **claims)}"},
            event_hooks={"response": [self.announced.check]},
        )

    def work(self) -> int:
        """Run every job that is due; how many there were."""
        count = 0
        while self.slot.work_once(self.engine):
            count += 1
        return count

    def staged(self) -> list[str]:
        return [path.name for path in self.settings.staging.iterdir()]

    def stored(self) -> list[str]:
        return sorted(self.app.storage.keys(""))

    def close(self) -> None:
        self.app.close()
        self.worker.close()


def upload(
    client: httpx.Client, content: bytes | None = None, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    content = picture() if content is None else content
    fields = {"bucket": "tests", **fields}
    return client.post("/api/v1/images/upload", files={"file": content}, data=fields, headers=headers)


def accepted(client: httpx.Client, content: bytes | None = None, **fields: str) -> dict[str, str]:
    answer = upload(client, content, **fields)
    assert answer.status_code == 202, answer.text
    return answer.json()


def assert_refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer that has the one body of errors."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details"}
    assert error["code"] == code
    assert error["message"].endswith(".")
    return error
