"""Errors as HTTP answers: always `{"error": {"code", "message", "details"}}`, never a traceback."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from image_processor.api.audit import note_of
from image_processor.api.edge import safe_headers
from image_processor.api.rate_limit import limit_headers
from image_processor.errors import (
    AuthenticationError,
    ForbiddenError,
    ImageProcessorError,
    InvalidRequestError,
    RateLimitError,
    RejectedError,
    TokenError,
    UnavailableError,
)
from image_processor.telemetry import emit


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="A word for programs; it does not change.", examples=["not_found"])
    message: str = Field(description="A sentence for people.", examples=["There is no such image."])
    details: dict[str, Any] = Field(default={}, description="Facts, where there are some.")


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


PLAIN = frozenset({413, 415, 422})
"""The statuses that say what is wrong with a request and its picture."""
PRIVATE = "The service cannot do this at the moment; the reason has been logged."
"""What is told in place of words that name our hosts and users."""
HTTP_CODES = {
    400: "malformed_request",
    401: "not_authenticated",
    404: "not_found",
    405: "method_not_allowed",
    414: "address_too_long",
    416: "range_not_satisfiable",
    431: "headers_too_large",
}


def add_error_answers(app: FastAPI) -> None:
    """Make every error that can leave a route an answer with the one body."""
    app.add_exception_handler(ImageProcessorError, _own)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unforeseen)


class PlainRefusals(APIRoute):
    """A route on which what is refused for the sake of the request is 400, whatever it is elsewhere."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own, with those answers."""
        answer = super().get_route_handler()

        async def answer_plainly(request: Request) -> Response:
            try:
                return await answer(request)
            except RejectedError as error:
                refusal = await _own(request, error)
            except RequestValidationError as error:
                refusal = await _validation(request, error)
            if refusal.status_code in PLAIN:
                refusal.status_code = 400
            return refusal

        return answer_plainly


def error_detail(error: ImageProcessorError) -> ErrorDetail:
    """What a client is told of an error."""
    if error.is_private:
        return ErrorDetail(code=error.code, message=PRIVATE)
    return ErrorDetail(code=error.code, message=error.message, details=jsonable_encoder(error.details))


def _answer(status: int, error: ErrorDetail, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(ErrorBody(error=error).model_dump(), status_code=status, headers=headers)


async def _own(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ImageProcessorError)  # noqa: S101 - registered for that class alone
    note_of(request).refusals.append(error)
    if error.status == 500 or error.is_private:
        emit("request.failed", path=request.url.path, code=error.code, error=str(error))
    return _answer(error.status, error_detail(error), _headers(error))


def _headers(error: ImageProcessorError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, AuthenticationError | ForbiddenError):
        headers["WWW-Authenticate"] = _challenge(error)
    if isinstance(error, RateLimitError):
        headers |= limit_headers(
            error.details["limit"], error.details["remaining"], error.details["reset_at"]
        )
    if isinstance(error, RateLimitError | UnavailableError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return headers


def _challenge(error: AuthenticationError | ForbiddenError) -> str:
    """What a client should bring, as RFC 6750 (3 and 3.1) has it told; without a token, no error is named."""
    match error:
        case ForbiddenError():
            return f'Bearer error="insufficient_scope", scope="{error.details.get("scope", "")}"'
        case TokenError():
            return 'Bearer error="invalid_token"'
        case _:
            return "Bearer"


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for that class alone
    faults = [
        {"field": ".".join(str(part) for part in fault["loc"][1:]), "message": fault["msg"]}
        for fault in error.errors()
    ]
    sentence = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    message = f"The request is not valid: {sentence}."
    details = {"faults": faults}
    note_of(request).refusals.append(InvalidRequestError(message))
    return _answer(422, ErrorDetail(code=InvalidRequestError.code, message=message, details=details))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class alone
    code = HTTP_CODES.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed(request) or headers.get("Allow", "")
    return _answer(error.status_code, ErrorDetail(code=code, message=f"{error.detail}."), headers)


def _allowed(request: Request) -> str:
    """The methods of a path: the framework names those of the first route alone that it finds."""
    found: dict[str, set[str]] = {}
    for route in getattr(request.app.state, "routes", ()):
        if route.matches(request.scope)[0] is not Match.NONE:
            found.setdefault(route.path, set()).update(route.methods)
    # `/images/batch` is not `/images/{image_id}`, although that takes it too.
    return ", ".join(sorted(found[min(found, key=lambda path: path.count("{"))])) if found else ""


async def _disconnected(request: Request, _error: Exception) -> JSONResponse:
    emit("request.disconnected", path=request.url.path)
    message = "The client left before the body was complete."
    return _answer(400, ErrorDetail(code="client_disconnected", message=message))


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    request_id = note_of(request).request_id
    told = f"{type(error).__name__}: {error}"
    emit("request.failed", path=request.url.path, error=told, request_id=request_id)
    message = "Something went wrong on our side; it has been logged."
    # This answer is made outside the middleware that adds the headers to all others.
    headers = {**safe_headers(request.url.path), "X-Request-ID": request_id}
    return _answer(500, ErrorDetail(code="internal_error", message=message), headers)
