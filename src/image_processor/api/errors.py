"""Errors as HTTP answers: always `{"error": {"code", "message", "details"}}`, never a traceback."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from image_processor.api.rate_limit import limit_headers
from image_processor.errors import (
    AuthenticationError,
    ImageProcessorError,
    InvalidRequestError,
    RateLimitError,
    UnavailableError,
)
from image_processor.telemetry import emit


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str
    """A word for programs, such as `unsupported_format`."""
    message: str
    """A sentence for people."""
    details: dict[str, Any] = {}


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


PRIVATE = "The service cannot do this at the moment; the reason has been logged."
"""What is told in place of words that name our hosts and users."""
HTTP_CODES = {
    401: "not_authenticated",
    404: "not_found",
    405: "method_not_allowed",
    416: "range_not_satisfiable",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI is told of the errors that a route answers with."""
    return {status: {"model": ErrorBody} for status in statuses}


def add_error_answers(app: FastAPI) -> None:
    """Make every error that can leave a route an answer with the one body."""
    app.add_exception_handler(ImageProcessorError, _own)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unforeseen)


def _answer(
    status: int, code: str, message: str, details: dict[str, Any], headers: dict[str, str]
) -> JSONResponse:
    body = {"error": {"code": code, "message": message, "details": jsonable_encoder(details)}}
    return JSONResponse(body, status_code=status, headers=headers)


async def _own(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ImageProcessorError)  # noqa: S101 - registered for that class alone
    if error.status == 500 or error.is_private:
        emit("request.failed", path=request.url.path, code=error.code, error=str(error))
    message, details = (PRIVATE, {}) if error.is_private else (error.message, error.details)
    return _answer(error.status, error.code, message, details, _headers(error))


def _headers(error: ImageProcessorError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimitError):
        headers |= limit_headers(
            error.details["limit"], error.details["remaining"], error.details["reset_at"]
        )
    if isinstance(error, RateLimitError | UnavailableError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return headers


async def _validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for that class alone
    faults = [
        {"field": ".".join(str(part) for part in fault["loc"][1:]), "message": fault["msg"]}
        for fault in error.errors()
    ]
    sentence = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return _answer(
        422, InvalidRequestError.code, f"The request is not valid: {sentence}.", {"faults": faults}, {}
    )


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class alone
    code = HTTP_CODES.get(error.status_code, "http_error")
    return _answer(error.status_code, code, f"{error.detail}.", {}, dict(error.headers or {}))


async def _disconnected(request: Request, _error: Exception) -> JSONResponse:
    emit("request.disconnected", path=request.url.path)
    return _answer(400, "client_disconnected", "The client left before the body was complete.", {}, {})


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    emit("request.failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
    # This answer is made outside the middleware that adds the header to all others.
    headers = {"X-Content-Type-Options": "nosniff"}
    return _answer(
        500, "internal_error", "Something went wrong on our side; it has been logged.", {}, headers
    )
