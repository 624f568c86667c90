"""Every error that can leave a route is an answer with the one body."""

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Query
from starlette.requests import ClientDisconnect

from image_processor import errors
from image_processor.api.edge import SafeHeaders
from image_processor.api.errors import ErrorBody, add_error_answers
from image_processor.telemetry import subscribe


def subclasses(base):
    return {base} | {found for child in base.__subclasses__() for found in subclasses(child)}


RATE = {"limit": 5, "remaining": 0, "reset_at": "2026-11-08T15:00:00.000Z"}


def an_error(kind):
    if kind is errors.RateLimitError:
        return kind("Too many.", retry_after_seconds=17, **RATE)
    return kind("It went wrong.", accepted=["image/jpeg"], max_bytes=3)


@pytest.fixture
def ask():
    """The answer of an API whose only route raises this error."""

    def ask(error, path="/", **options):
        api = FastAPI()
        add_error_answers(api)
        api.add_middleware(SafeHeaders)

        @api.get("/")
        async def fail(number: Annotated[int, Query(ge=1)] = 1):
            raise error

        async def answer():
            transport = httpx.ASGITransport(api, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                return await client.request(options.get("method", "GET"), path)

        found = asyncio.run(answer())
        ErrorBody.model_validate(found.json(), extra="forbid")
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["content-type"] == "application/json"
        return found

    return ask


@pytest.mark.parametrize(
    "kind", sorted(subclasses(errors.ImageProcessorError), key=lambda kind: kind.__name__)
)
def test_an_error_of_ours_is_its_status_code_and_sentence(ask, kind):
    error = an_error(kind)
    answer = ask(error)
    assert answer.status_code == kind.status
    assert answer.json() == {
        "error": {"code": kind.code, "message": error.message, "details": error.details},
    }


def test_the_words_of_a_database_are_logged_and_not_told(ask):
    error = errors.UnavailableError("connection to server at 10.1.2.3 failed", sqlstate="08006")
    error.is_private = True
    logged = []
    unsubscribe = subscribe(lambda event, fields: logged.append((event, fields["error"])))
    try:
        answer = ask(error)
    finally:
        unsubscribe()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "unavailable"
    assert not {"10.1.2.3", "08006"} & set(answer.text.replace('"', " ").split())
    assert logged == [("request.failed", error.message)]


def test_who_is_not_known_is_told_how_to_be(ask):
    assert ask(an_error(errors.AuthenticationError)).headers["www-authenticate"] == "Bearer"
    assert ask(an_error(errors.TokenError)).headers["www-authenticate"] == 'Bearer error="invalid_token"'
    lacking = ask(errors.ForbiddenError("It lacks a scope.", scope="delete"))
    assert lacking.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="delete"'


def test_who_must_wait_is_told_how_long(ask):
    limited = ask(an_error(errors.RateLimitError))
    assert limited.headers["retry-after"] == "17"
    assert limited.headers["x-ratelimit-limit"] == "5"
    assert limited.headers["x-ratelimit-remaining"] == "0"
    assert limited.headers["x-ratelimit-reset"] == "2026-11-08T15:00:00Z"
    assert ask(an_error(errors.UnavailableError)).headers["retry-after"] == "5"
    assert ask(an_error(errors.StorageFullError)).headers["retry-after"] == "60"
    assert "retry-after" not in ask(an_error(errors.NotFoundError)).headers


def test_an_unforeseen_error_says_nothing_of_itself_and_is_logged(ask):
    events = []
    unsubscribe = subscribe(lambda event, fields: events.append((event, fields)))
    answer = ask(RuntimeError("the password is hunter2"))
    unsubscribe()
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "hunter2" not in answer.text
    told = {"path": "/", "request_id": answer.headers["x-request-id"]}
    assert events == [("request.failed", told | {"error": "RuntimeError: the password is hunter2"})]


@pytest.mark.parametrize(
    "kind", [errors.StorageError, errors.EngineError, errors.ImageProcessorError, errors.ConfigurationError]
)
def test_our_own_failures_are_logged(ask, kind):
    events = []
    unsubscribe = subscribe(lambda event, fields: events.append((event, fields["code"])))
    ask(an_error(kind))
    unsubscribe()
    assert events == [("request.failed", kind.code)]


def test_a_request_that_is_not_valid_names_the_field(ask):
    answer = ask(None, "/?number=0")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "invalid_request")
    assert "number: " in error["message"]
    assert [fault["field"] for fault in error["details"]["faults"]] == ["number"]


def test_an_unknown_path_and_method_have_the_same_body(ask):
    missing, refused = ask(None, "/nowhere"), ask(None, method="DELETE")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "GET"


def test_an_http_error_keeps_its_headers(ask):
    answer = ask(HTTPException(418, "A teapot", {"X-Pot": "small"}))
    assert (answer.status_code, answer.headers["x-pot"]) == (418, "small")
    assert answer.json() == {"error": {"code": "http_error", "message": "A teapot.", "details": {}}}


def test_a_client_that_left_costs_no_server_error(ask):
    answer = ask(ClientDisconnect())
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "client_disconnected")
