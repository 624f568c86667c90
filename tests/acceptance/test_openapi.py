"""Schemathesis reads our OpenAPI schema and asks a running service what it allows and what it forbids."""

import io
import json
import os
import socket
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from PIL import Image
from schemathesis.engine import events, from_schema
from schemathesis.generation.meta import TestPhase
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from running_service import IS_SOAK, Service, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if IS_SOAK else 400)]

SEED = int(os.environ.get("OPENAPI_SEED", "6"))
EXAMPLES = 200 if IS_SOAK else 4
"""Of each operation in each way to make them up."""
MAX_SECONDS = int(os.environ.get("OPENAPI_SECONDS", "600"))
"""Of the long form, which goes on with other examples until then."""
EXAMPLE_CALLBACK = "https://example.com/hooks/images"
FLOOR = 2000 if IS_SOAK else 600
ROUTINE = {"not_a_server_error", "status_code_conformance", "content_type_conformance"}

# What a schema cannot say is refused with these, and that is no fault of the schema: that a text is a JSON
# object, a preset's name one that is known, a picture large enough, a cursor one of ours.
NOT_IN_THE_SCHEMA = ["2xx", "3xx", "401", "403", "404", "409", "413", "415", "422", "429"]
REFUSED = [
    *("400", "401", "403", "404", "405", "406", "408", "409", "413", "414", "415"),
    *("422", "429", "431"),
]
# In a form whatever is no file is a part as any other: it is refused by itself.
REFUSED_BY = {"POST /api/v1/images/batch": [*REFUSED, "207"]}
# Thumbnails answer 400 with all of these.
PLAINLY = [*NOT_IN_THE_SCHEMA, "400"]
MEANT_BY_TEXT = {
    "POST /api/v1/images/upload": NOT_IN_THE_SCHEMA,
    "POST /api/v1/images/batch": NOT_IN_THE_SCHEMA,
    "POST /api/v1/images/uploads": NOT_IN_THE_SCHEMA,
    "POST /api/v1/images/uploads/{upload_id}/complete": NOT_IN_THE_SCHEMA,
    "PUT /api/v1/images/uploads/{upload_id}/content": NOT_IN_THE_SCHEMA,
    "POST /images/upload": PLAINLY,
    "POST /jobs": NOT_IN_THE_SCHEMA,
    "GET /jobs": NOT_IN_THE_SCHEMA,
    "GET /jobs/failed": NOT_IN_THE_SCHEMA,
    "GET /api/v1/images": NOT_IN_THE_SCHEMA,
    "GET /api/v1/images/batch": NOT_IN_THE_SCHEMA,
    "GET /api/v1/health/failed": NOT_IN_THE_SCHEMA,
    # A failed job has no result, whatever is asked for (422).
    "GET /api/v1/images/jobs/{job_id}/result": NOT_IN_THE_SCHEMA,
    "GET /api/v1/images/{image_id}": NOT_IN_THE_SCHEMA,
    "GET /api/v1/images/{image_id}/all": NOT_IN_THE_SCHEMA,
    "GET /api/v1/images/{image_id}/direct": NOT_IN_THE_SCHEMA,
}


def config(token: str) -> dict[str, Any]:
    """All checks and all phases; what is off or wider than usual, and why, stands here and above."""
    return {
        "seed": SEED,
        "headers": {"Authorization": f"Bearer {token}"},
        "request-timeout": 30,
        "continue-on-failure": True,
        # Headers that nobody asked for, browsers and proxies add to any request: they are no fault of it.
        "generation": {"max-examples": EXAMPLES, "database": "none", "allow-extra-parameters": False},
        "phases": {"coverage": {"unexpected-methods": ["PATCH", "OPTIONS"]}},
        "checks": {
            # Too long an address, head or body is refused as well.
            "negative_data_rejection": {"expected-statuses": REFUSED},
            # Wants the tokens of two users; test_matrix.py has all operations with those of others.
            "object_level_authorization": {"enabled": False},
        },
        "operations": [
            {
                "include-name": name,
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": statuses},
                    "negative_data_rejection": {"expected-statuses": REFUSED_BY.get(name, REFUSED)},
                },
            }
            for name, statuses in MEANT_BY_TEXT.items()
        ],
        **({"max-time": MAX_SECONDS} if IS_SOAK else {}),
    }


def picture(kind: str, width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, kind)
    return file.getvalue()


PICTURES = [
    picture("JPEG", 160, 120),
    picture("PNG", 120, 110),
    picture("WEBP", 200, 100),
    picture("JPEG", 160, 120)[:700],
    picture("GIF", 120, 120),
    b"junk" * 100,
]
"""Three to be taken, three to be refused: cut off, of another type, none at all."""


@dataclass
class Sense:
    """
    Gives many requests that are valid by the schema what only somebody who knows the service would put in.

    Random text is no picture, no preset and no address: without this, no upload would get past its checks.
    """

    service: Service
    pictures: Path
    callback_url: str
    known: dict[tuple[str, str], str]
    """By operation, where it is of one alone, and parameter: what is there."""

    def improve(self, case: Any, options: dict[str, Any]) -> None:
        is_valid = case.meta and case.meta.generation.mode.is_positive
        chance = zlib.crc32(repr((case.body, case.query, case.headers)).encode())
        label = case.operation.label
        if is_valid and case.method == "GET":
            self._look(case, chance)
        elif is_valid and label.startswith(("PUT /api/v1/images/uploads", "POST /api/v1/images/uploads/")):
            if chance % 2:
                self._upload(case, options, PICTURES[chance % len(PICTURES)])
        elif isinstance(case.body, dict):
            body = self._body(case.body, label, chance) if is_valid else case.body
            callback_url = str(body.get("callback_url"))
            if callback_url == EXAMPLE_CALLBACK or (is_valid and callback_url.startswith("http")):
                body = {**body, "callback_url": self.callback_url}
            if case.media_type != "multipart/form-data":
                case.body = body
            elif body != case.body:
                # Put into the case itself, bytes would make it one that is not valid.
                options["files"] = list(_parts(body))

    def _look(self, case: Any, chance: int) -> None:
        """Ask for what is there: an image that has completed, its job, its file."""
        phase = case.meta.phase.name
        if phase is TestPhase.EXAMPLES or (phase is not TestPhase.STATEFUL and chance % 2):
            given = case.path_parameters or {}
            found = {
                name: self.known.get((case.operation.label, name)) or self.known.get(("", name))
                for name in given
            }
            case.path_parameters = {name: found[name] or value for name, value in given.items()}

    def _body(self, body: dict[str, Any], label: str, chance: int) -> dict[str, Any]:
        content = PICTURES[chance // 2 % len(PICTURES)]
        files = {"file": content, "image": content, "files": [content, PICTURES[chance % 3]]}
        sensible = {
            "bucket": "tests",
            "callback_url": self.callback_url,
            "preset": "thumbnails",
            "metadata": {"album": "summer"} if label == "POST /jobs" else '{"album": "summer"}',
            "input": f"file://{self.pictures}/{chance % 2}.png",
            "output": None,
            "operations": [{"op": "resize", "width": 20 + chance % 50}],
            "content_type": "image/png",
            "sha256": None,
        }
        known = files if chance % 3 == 0 else files | sensible
        return {name: known.get(name, value) for name, value in body.items()}

    def _upload(self, case: Any, options: dict[str, Any], content: bytes) -> None:
        """Open an upload, and put in its bytes where they are what is not asked for."""
        asked = {"content_type": "image/jpeg", "size_bytes": len(content), "bucket": "tests"}
        with self.service.client() as client:
            ticket = client.post("/api/v1/images/uploads", json=asked).raise_for_status().json()
            case.path_parameters = {"upload_id": ticket["upload_id"]}
            if case.method == "POST":
                client.put(ticket["url"], content=content, headers=ticket["headers"]).raise_for_status()
                return
        address = client.build_request("PUT", ticket["url"]).url
        case.query = dict(address.params)
        case.headers = {**(case.headers or {}), **ticket["headers"]}
        options["data"] = content


def _parts(body: dict[str, Any]) -> Iterator[tuple[str, tuple[str | None, bytes]]]:
    """A form as it is sent: bytes as files, all else as text."""
    for name, value in body.items():
        for one in value if isinstance(value, list) else [value]:
            content = getattr(one, "data", one)
            if isinstance(content, bytes):
                yield name, ("a picture", content)
            else:
                yield (
                    name,
                    (None, (one if isinstance(one, str) else json.dumps(one)).encode(errors="replace")),
                )


@dataclass
class Findings:
    """What a run has done, and what it found wrong."""

    cases: Counter[str] = field(default_factory=Counter)
    """By phase."""
    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """By operation."""
    faults: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """Operation, check and title: the first message, with a line for curl."""
    checks: Counter[str] = field(default_factory=Counter)
    stopped: str = ""

    def add(self, event: Any) -> None:
        if isinstance(event, events.ScenarioFinished):
            self._add_scenario(event)
        elif isinstance(event, events.NonFatalError):
            self.faults[event.label, "error", type(event.value).__name__] = str(event.value)
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.EngineFinished):
            self.stopped = event.stop_reason.value

    def _add_scenario(self, event: Any) -> None:
        recorder = event.recorder
        self.cases[event.phase.value] += len(recorder.interactions)
        for case_id, interaction in recorder.interactions.items():
            label = recorder.cases[case_id].value.operation.label
            self.statuses[label][interaction.response.status_code if interaction.response else 0] += 1
        for node in (node for nodes in recorder.checks.values() for node in nodes):
            self.checks[node.name] += 1
            if node.failure_info:
                failure = node.failure_info.failure
                told = f"{failure.message}\n{node.failure_info.code_sample}"
                self.faults.setdefault((failure.operation, node.name, failure.title), told)

    def __str__(self) -> str:
        lines = [f"{sum(self.cases.values())} cases, seed {SEED}: {dict(self.cases)}; ended: {self.stopped}"]
        lines += [f"{label}: {dict(sorted(found.items()))}" for label, found in sorted(self.statuses.items())]
        lines += [f"checks: {dict(self.checks)}"]
        return "\n".join(lines + [f"{' | '.join(fault)}\n{told}" for fault, told in self.faults.items()])


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port of ours on which nobody listens: what is called back stays on this machine."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "0.png").write_bytes(picture("PNG", 120, 110))
    environment = {
        "FILE_ROOTS": str(folder / "pictures"),
        "WEBHOOK_SECRET": "whsec_" + "A" * 43 + "=",
        "PRIVATE_NETWORKS": "127.0.0.0/8",
        "MAX_OPEN_UPLOADS": "100000",
    }
    service = Service(folder, environment=environment)
    service.start()
    yield service
    service.stop()


def known_ids(service: Service) -> dict[tuple[str, str], str]:
    with service.client() as client:
        accepted = upload(client, PICTURES[0]).raise_for_status().json()
        thumbnails = client.post("/images/upload", files={"image": PICTURES[1]}).raise_for_status().json()
        wait_for_result(client, accepted["job_id"]).raise_for_status()
        url = client.get(f"/api/v1/images/{accepted['image_id']}").raise_for_status().json()["url"]
    return {
        ("", "job_id"): accepted["job_id"],
        ("", "image_id"): accepted["image_id"],
        ("", "key"): url.removeprefix("/storage/"),
        ("GET /images/{upload_id}", "upload_id"): thumbnails["uploadId"],
    }


@pytest.fixture(scope="module")
def findings(service, closed_port) -> Findings:
    settings = schemathesis.Config.from_dict(config(service.token))
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=settings)
    callback_url = f"http://127.0.0.1:{closed_port}/hook"
    sense = Sense(service, service.folder / "pictures", callback_url, known_ids(service))

    @schemathesis.hook("before_call")
    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        sense.improve(case, kwargs)

    found = Findings()
    try:
        for event in from_schema(schema).execute():
            found.add(event)
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(before_call)
    print(found)
    return found


def operations(service: Service) -> set[str]:
    with service.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item}


def test_nothing_is_found_wrong(findings):
    assert findings.faults == {}, str(findings)


def test_everything_was_asked_and_often(findings, service):
    assert set(findings.statuses) == operations(service)
    assert {"examples", "coverage", "fuzzing", "stateful"} <= set(+findings.cases)
    assert sum(findings.cases.values()) >= FLOOR
    assert {*ROUTINE, "negative_data_rejection", "use_after_free", "ignored_auth"} <= set(findings.checks)


def test_what_was_asked_did_work_as_well(findings):
    succeeded = {label for label, seen in findings.statuses.items() if any(200 <= s < 300 for s in seen)}
    assert set(findings.statuses) - succeeded <= SELDOM


SELDOM = {
    "DELETE /api/v1/images/{image_id}",
    "GET /api/v1/images/uploads/{upload_id}",
    "POST /api/v1/images/uploads/{upload_id}/complete",
    "POST /jobs/{job_id}/cancel",
    "POST /jobs/{job_id}/deliveries/{delivery_id}/replay",
    "POST /jobs/{job_id}/retry",
}
"""What needs a chain of requests, and a worker that is just so far."""


def test_the_service_is_well_afterwards(findings, service):
    with service.client() as client:
        assert client.get("/api/v1/health").json()["status"] == "healthy"
    assert [line for line in service.log if "Traceback" in line or "internal_error" in line] == []
