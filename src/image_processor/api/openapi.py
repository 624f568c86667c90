"""What the OpenAPI document says of all operations alike: errors, headers, links. Routes tell the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from image_processor import errors
from image_processor.api.errors import HTTP_CODES, PLAIN, ErrorBody, ErrorDetail, error_detail
from image_processor.api.examples import with_example
from image_processor.api.protocol import REFUSALS
from image_processor.api.schemas import EXAMPLE_ID

JsonObject = dict[str, Any]
Operation = tuple[str, str]
"""Method, in lower case, and path."""

RESET_AT = "2026-11-08T15:00:00.000Z"
ERRORS: tuple[errors.ImageProcessorError, ...] = (
    errors.AuthenticationError("A bearer token is needed: send `Authorization: Bearer <token>`."),
    errors.ForbiddenError("The token does not allow this; it lacks the scope `upload`.", scope="upload"),
    errors.UploadAddressError("The address of this upload has expired; open a new one."),
    errors.NotFoundError("There is no such image."),
    errors.UploadTimeoutError("The body was not complete after 60 seconds."),
    errors.ResultNotReadyError(
        "The image has not been processed yet.", job_id=EXAMPLE_ID, status="processing"
    ),
    errors.ConflictError("The job has completed already."),
    errors.FileTooLargeError("The file is larger than 50 MB.", max_bytes=52_428_800),
    errors.UnsupportedFormatError(
        "The file looks like a PDF document; accepted are JPEG, PNG, WebP.",
        accepted=["image/jpeg", "image/png", "image/webp"],
    ),
    errors.InvalidRequestError(
        "The request is not valid: limit: Input should be greater than or equal to 1.",
        faults=[{"field": "limit", "message": "Input should be greater than or equal to 1"}],
    ),
    errors.InvalidOperationError("resize: width is 0; it may be 1 to 16384.", operation=0, op="resize"),
    errors.CorruptImageError("The image is truncated or damaged."),
    errors.ImageTooLargeError("The image has 120 megapixels; 100 are allowed.", max_pixels=100_000_000),
    errors.ImageTooSmallError("The image is 20 x 20 pixels; at least 100 pixels a side are needed."),
    errors.IdempotencyError("This Idempotency-Key came with another request before."),
    errors.AddressRefusedError("The URL leads to an address that is not public."),
    errors.JobFailedError("The image is truncated or damaged.", job_id=EXAMPLE_ID, reason="rejected"),
    errors.RateLimitError(
        "50 uploads an hour are allowed; the next window begins in 1200 seconds.",
        retry_after_seconds=1200,
        limit=50,
        remaining=0,
        reset_at=RESET_AT,
    ),
    errors.TooManyStreamsError("You have 20 event streams open; close one, or poll.", limit=20),
    errors.MissingExtraError("Finding faces needs an optional part that is not installed."),
    errors.UnavailableError("The database is busy; try again later."),
    errors.StorageDownError("The storage does not answer."),
    errors.StorageFullError("The disk is nearly full."),
)
"""One of each kind that a client meets: code, status and body are what such an error really answers."""

OTHERS: tuple[tuple[int, str, str], ...] = (
    *((status.value, HTTP_CODES[status.value], sentence) for status, sentence in REFUSALS.items()),
    (400, "client_disconnected", "The client left before the body was complete."),
    (416, HTTP_CODES[416], "The file has 5310 bytes and no such range."),
    (500, "internal_error", "Something went wrong on our side; it has been logged."),
)
"""Status, code and message of what is no error of the tree."""

DESCRIPTIONS: Mapping[int, str] = {
    400: "The request is malformed, or broke off.",
    401: "There is no token, or it does not hold.",
    403: "The token, or the signed address, does not allow this.",
    404: "There is no such thing, or it is somebody else's.",
    408: "The body did not come in time.",
    409: "Not in this state.",
    413: "There are more bytes than allowed.",
    414: "The address is too long.",
    415: "It is no picture of an accepted type.",
    416: "The file has no such range.",
    422: "The request is understood, and refused for what is in it.",
    429: "You have used up your share for now.",
    431: "The head of the request is too large.",
    500: "A failure of ours.",
    501: "An optional part is not installed here.",
    503: "Something below is busy or down: try again later.",
    507: "There is no room for now.",
}

LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
RECEIPT_HEADERS = (*LIMIT_HEADERS, "Idempotent-Replayed")
ERROR_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: (*LIMIT_HEADERS, "Retry-After"),
    503: ("Retry-After",),
    507: ("Retry-After",),
}

COUNT: JsonObject = {"type": "integer", "minimum": 0}
TEXT: JsonObject = {"type": "string"}
HEADERS: Mapping[str, tuple[str, JsonObject, Any]] = {
    "Accept-Ranges": ("Parts may be asked for.", TEXT, "bytes"),
    "Cache-Control": ("How long it may be kept, and by whom.", TEXT, "public, max-age=31536000, immutable"),
    "Content-Range": ("Which part of how many bytes.", TEXT, "bytes 0-1023/5310"),
    "ETag": ("Names the bytes; for `If-None-Match` and `If-Range`.", TEXT, '"3a5f8c0d"'),
    "Idempotent-Replayed": ("There where the `Idempotency-Key` had been answered before.", TEXT, "true"),
    "Link": (
        "Other pages (RFC 8288): the next one is `next`; absent behind the last.",
        TEXT,
        '</jobs?limit=20&cursor=WyIyMDI2LTExLTA4VDE0OjAwOjAwLjAwMFoiLCAiNWYwYzNjM2UiXQ>; rel="next"',
    ),
    "Location": ("Where what was made is to be looked at.", TEXT, f"/jobs/{EXAMPLE_ID}"),
    "Retry-After": ("Try again after so many seconds.", COUNT, 5),
    "WWW-Authenticate": ("What to bring (RFC 6750).", TEXT, "Bearer"),
    "X-RateLimit-Limit": ("Uploads of a window; absent where there is no limit.", COUNT, 50),
    "X-RateLimit-Remaining": ("What is left of them.", COUNT, 49),
    "X-RateLimit-Reset": (
        "When the next window begins.",
        {**TEXT, "format": "date-time"},
        RESET_AT.replace(".000Z", "Z"),
    ),
}
"""Description, schema and example of each."""

ALWAYS = (400, 414, 431, 500, 503)
"""What every operation may answer: the wire, a failure of ours, something below that is down."""
WITH_TOKEN = (401, 403)
PLAIN_REFUSALS: dict[int | str, JsonObject] = {400: {"$ref": "#/components/responses/PlainRefusal"}}
"""For the routes on which whatever is wrong with a request is 400."""


def error_responses(*statuses: int) -> dict[int | str, JsonObject]:
    """The errors that a route answers with, beside those of all routes and of all that ask for a token."""
    return {status: _reference(status) for status in statuses}


def header_references(*names: str) -> JsonObject:
    """The part of a response that says which headers it has."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


@dataclass(frozen=True)
class Link:
    """Where an answer leads: an operation, and where in the answer, or its request, its parameters are."""

    name: str
    to: Operation
    parameters: Mapping[str, str]


IMAGES = "/api/v1/images"
OF_JOBS: tuple[tuple[str, Operation], ...] = (
    ("status", ("get", IMAGES + "/jobs/{job_id}")),
    ("result", ("get", IMAGES + "/jobs/{job_id}/result")),
    ("events", ("get", IMAGES + "/jobs/{job_id}/events")),
    ("job", ("get", "/jobs/{job_id}")),
    ("jobEvents", ("get", "/jobs/{job_id}/events")),
    ("deliveries", ("get", "/jobs/{job_id}/deliveries")),
    ("retry", ("post", "/jobs/{job_id}/retry")),
    ("cancel", ("post", "/jobs/{job_id}/cancel")),
)
OF_IMAGES: tuple[tuple[str, Operation], ...] = (
    ("image", ("get", IMAGES + "/{image_id}")),
    ("allVariants", ("get", IMAGES + "/{image_id}/all")),
    ("file", ("get", IMAGES + "/{image_id}/direct")),
    ("delete", ("delete", IMAGES + "/{image_id}")),
)
OF_UPLOADS: tuple[tuple[str, Operation], ...] = (
    ("state", ("get", IMAGES + "/uploads/{upload_id}")),
    ("complete", ("post", IMAGES + "/uploads/{upload_id}/complete")),
)


def _links(targets: tuple[tuple[str, Operation], ...], parameter: str, found_at: str) -> tuple[Link, ...]:
    return tuple(Link(name, to, {parameter: f"$response.body#/{found_at}"}) for name, to in targets)


RECEIVED = _links(OF_JOBS, "job_id", "job_id") + _links(OF_IMAGES, "image_id", "image_id")
LINKS: Mapping[tuple[Operation, int], tuple[Link, ...]] = {
    (("post", IMAGES + "/upload"), 202): RECEIVED,
    (("post", IMAGES + "/batch"), 202): (
        *_links(OF_JOBS, "job_id", "files/0/job_id"),
        *_links(OF_IMAGES, "image_id", "files/0/image_id"),
    ),
    (("post", IMAGES + "/uploads"), 201): _links(OF_UPLOADS, "upload_id", "upload_id"),
    (("post", IMAGES + "/uploads/{upload_id}/complete"), 202): RECEIVED,
    (("get", IMAGES + "/jobs/{job_id}/result"), 200): _links(OF_IMAGES, "image_id", "image_id"),
    (("post", "/images/upload"), 202): (
        Link("thumbnails", ("get", "/images/{upload_id}"), {"upload_id": "$response.body#/uploadId"}),
        *_links(OF_IMAGES, "image_id", "uploadId"),
    ),
    (("post", "/jobs"), 202): RECEIVED,
    (("get", "/jobs/{job_id}/deliveries"), 200): (
        Link(
            "replay",
            ("post", "/jobs/{job_id}/deliveries/{delivery_id}/replay"),
            {
                "job_id": "$request.path.job_id",
                "delivery_id": "$response.body#/deliveries/0/delivery_id",
            },
        ),
    ),
}


class DescribedApi(FastAPI):
    """An application whose document tells of its errors, headers, links and examples as well."""

    def openapi(self) -> JsonObject:
        """The document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema


def completed(document: JsonObject) -> JsonObject:
    """The document that FastAPI makes of the routes, with what holds for all of them; it is changed."""
    _add_components(document["components"])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _add_errors(operation)
            _add_links(document, (method, path), operation)
            _describe_events(operation)
    for media in _media(document):
        with_example(media, document)
    return document


def _add_components(components: JsonObject) -> None:
    schemas: JsonObject = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ErrorDetail"] = ErrorDetail.model_json_schema()
    schemas["ErrorBody"] = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas["ErrorBody"].pop("$defs")
    bodies = _bodies()
    components["headers"] = {
        name: {"description": text, "schema": schema, "example": example}
        for name, (text, schema, example) in HEADERS.items()
    }
    components["responses"] = {f"Error{status}": _response(status, told) for status, told in bodies.items()}
    plain = bodies[400] | {code: body for status in sorted(PLAIN) for code, body in bodies[status].items()}
    components["responses"]["PlainRefusal"] = _response(400, plain) | {
        "description": "Something is wrong with the request or its picture."
    }


def _bodies() -> dict[int, dict[str, ErrorBody]]:
    """By status, then by code, an error as it is told."""
    found: dict[int, dict[str, ErrorBody]] = {status: {} for status in DESCRIPTIONS}
    for status, code, message in OTHERS:
        found[status][code] = ErrorBody(error=ErrorDetail(code=code, message=message))
    for error in ERRORS:
        found[error.status][error.code] = ErrorBody(error=error_detail(error))
    return found


def _response(status: int, bodies: Mapping[str, ErrorBody]) -> JsonObject:
    content = {
        "schema": {"$ref": "#/components/schemas/ErrorBody"},
        "examples": {code: {"value": body.model_dump(mode="json")} for code, body in bodies.items()},
    }
    return {
        "description": DESCRIPTIONS[status],
        **header_references(*ERROR_HEADERS.get(status, ())),
        "content": {"application/json": content},
    }


def _reference(status: int) -> JsonObject:
    return {"$ref": f"#/components/responses/Error{HTTPStatus(status).value}"}


def _add_errors(operation: JsonObject) -> None:
    told: JsonObject = operation["responses"]
    if "$ref" not in told.get("422", {"$ref": ""}):
        del told["422"]  # FastAPI's own, which no route of ours answers
    common = ALWAYS + (WITH_TOKEN if "security" in operation else ())
    told = {str(status): _reference(status) for status in common} | told
    operation["responses"] = {status: _bare(response) for status, response in sorted(told.items())}


def _bare(response: JsonObject) -> JsonObject:
    """Without FastAPI's word for the status, which stands beside each reference."""
    return {"$ref": response["$ref"]} if "$ref" in response else response


def _add_links(document: JsonObject, source: Operation, operation: JsonObject) -> None:
    for status, response in operation["responses"].items():
        if links := LINKS.get((source, int(status))):
            response["links"] = {link.name: _link(document, link) for link in links}


def _link(document: JsonObject, link: Link) -> JsonObject:
    method, path = link.to
    operation = document["paths"][path][method]
    return {"operationId": operation["operationId"], "parameters": dict(link.parameters)}


def _describe_events(operation: JsonObject) -> None:
    """Say that the model of a stream is what stands in the data of each of its events."""
    for response in operation["responses"].values():
        if stream := response.get("content", {}).get("text/event-stream"):
            told = {"$ref": stream["schema"]["$ref"]}
            data = {**TEXT, "contentMediaType": "application/json", "contentSchema": told}
            stream["schema"] = {
                "type": "object",
                "description": "Each event.",
                "required": ["id", "event", "data"],
                "properties": {
                    "id": {**TEXT, "examples": ["cf07b2fe55e0135e"]},
                    "event": {**TEXT, "enum": ["progress", "completed", "failed"], "examples": ["completed"]},
                    "data": data,
                },
            }


def _media(document: JsonObject) -> Iterator[JsonObject]:
    """Every body that is asked for or answered, but for those of errors."""
    for item in document["paths"].values():
        for operation in item.values():
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                yield from part.get("content", {}).values()
