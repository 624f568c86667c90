"""A route of the test's own is deprecated, and says so: in its answers, in the document, once in the log."""

from collections.abc import Iterator
from datetime import date, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Response

from image_processor.api.deprecation import DEPRECATIONS, LEAST_NOTICE, Deprecation, add_deprecations
from image_processor.api.errors import add_error_answers
from image_processor.errors import ConfigurationError, NotFoundError
from image_processor.telemetry import subscribe
from integration.api.front import InProcess

DOCUMENT = Path(__file__).parents[3] / "docs" / "explanation" / "deprecation.md"
OLD = Deprecation(
    since=date(2026, 11, 8),
    sunset=date(2027, 11, 8),
    successor="/new/{item}",
    policy="https://example.com/policy",
)


def routes() -> APIRouter:
    router = APIRouter(prefix="/old")

    @router.get("/{item}")
    def read(item: str, response: Response) -> str:
        if item == "none":
            raise NotFoundError("There is no such thing.")
        response.headers["Link"] = '</old/2>; rel="next"'
        return item

    @router.delete("/{item}")
    def delete(item: str) -> str:
        return item

    return router


def deprecated(*operations: tuple[str, str]) -> FastAPI:
    api, router = FastAPI(), routes()
    add_error_answers(api)
    add_deprecations(api, [router], dict.fromkeys(operations, OLD))
    api.include_router(router)
    return api


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    transport = InProcess(deprecated(("GET", "/old/{item}")))
    with httpx.Client(transport=transport, base_url="http://testserver") as client:
        yield client


def test_every_answer_says_since_when_until_when_and_what_instead(client):
    answer = client.get("/old/1")
    assert answer.headers["deprecation"] == "@1794096000"
    assert answer.headers["sunset"] == "Mon, 08 Nov 2027 00:00:00 GMT"
    assert parsedate_to_datetime(answer.headers["sunset"]).date() == OLD.sunset
    links = answer.headers.get_list("link")
    assert links == [
        '</old/2>; rel="next"',
        '</new/{item}>; rel="successor-version", <https://example.com/policy>; rel="deprecation"',
    ]
    refused = client.get("/old/none")
    assert refused.status_code == 404
    assert refused.headers["deprecation"] == "@1794096000"


def test_nothing_else_says_so(client):
    for answer in (client.delete("/old/1"), client.get("/nowhere"), client.post("/old/1")):
        assert not {"deprecation", "sunset"} & set(answer.headers)


def test_the_schema_marks_it(client):
    operations = client.get("/openapi.json").json()["paths"]["/old/{item}"]
    assert operations["get"]["deprecated"] is True
    assert "deprecated" not in operations["delete"]


def test_the_log_hears_of_it_once(client):
    heard = []
    end = subscribe(lambda event, fields: heard.append((event, fields)))
    for number in range(3):
        client.get(f"/old/{number}")
    end()
    told = {"method": "GET", "route": "/old/{item}", "sunset": "2027-11-08"}
    assert heard == [("route.deprecated", told)]


def test_a_short_notice_is_refused():
    since = date(2026, 1, 1)
    Deprecation(since=since, sunset=since + LEAST_NOTICE, successor="/new")
    with pytest.raises(ConfigurationError, match="180 days"):
        Deprecation(since=since, sunset=since + LEAST_NOTICE - timedelta(days=1), successor="/new")


def test_what_does_not_exist_is_not_deprecated():
    with pytest.raises(ConfigurationError, match="/gone"):
        deprecated(("GET", "/gone"))


def test_the_document_lists_what_is_deprecated():
    text = DOCUMENT.read_text(encoding="utf-8").partition("## What is deprecated now")[2]
    listed = {tuple(line.split("`")[1].split()) for line in text.splitlines() if line.startswith("| `")}
    assert listed == set(DEPRECATIONS)
    assert str(LEAST_NOTICE.days) in DOCUMENT.read_text(encoding="utf-8")
