"""The fields of an upload's form, as OpenAPI shows them and as we read them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from image_processor.errors import InvalidRequestError
from image_processor.jobs.values import Priority
from image_processor.service import DEFAULT_PRESET, Submission

Known = TypeVar("Known")

PRIORITIES = {"normal": Priority.NORMAL, "high": Priority.HIGH, "low": Priority.LOW}
BOOLEANS = {"false": False, "true": True}

FILE: dict[str, Any] = {"type": "string", "format": "binary", "description": "The picture."}
TARGET_FIELDS: dict[str, Any] = {
    "bucket": {
        "type": "string",
        "pattern": "^[a-z0-9][a-z0-9._-]{1,62}$",
        "description": "The first part of the keys under which the variants are stored.",
        "examples": ["my-photos"],
    },
    "preset": {"type": "string", "default": DEFAULT_PRESET, "description": "What to make of it."},
}
JOB_FIELDS: dict[str, Any] = {
    "metadata": {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "A JSON object, at most 16 KiB, handed back with the result.",
        "examples": ['{"album": "summer"}'],
    },
    "priority": {
        "type": "string",
        "enum": [priority.name.lower() for priority in Priority],
        "default": "normal",
        "description": "Which due job is taken first.",
    },
    "callback_url": {
        "type": "string",
        "anyOf": [{"format": "uri"}, {"maxLength": 0}],
        "description": "Gets a signed POST when the job has come to rest; empty: nobody does.",
        "examples": ["https://example.com/hooks/images"],
    },
    "reuse": {
        "type": "boolean",
        "default": False,
        "description": "Whether the result of an earlier, same upload will do.",
    },
}


def form_body(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    """A multipart form for OpenAPI."""
    schema = {"type": "object", "required": list(required), "properties": dict(properties)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def read_submission(user: str, fields: Mapping[str, str], idempotency_key: str = "") -> Submission:
    """What they ask for. Raises InvalidRequestError for a word that is unknown, and where one is missing."""
    return Submission(
        user_id=user,
        bucket=_required("bucket", fields),
        metadata=fields.get("metadata", ""),
        preset=fields.get("preset") or DEFAULT_PRESET,
        priority=_one_of(PRIORITIES, "priority", fields),
        callback_url=fields.get("callback_url", ""),
        reuse_completed=_one_of(BOOLEANS, "reuse", fields),
        idempotency_key=idempotency_key,
    )


def _required(field: str, fields: Mapping[str, str]) -> str:
    if not fields.get(field):
        raise InvalidRequestError(f"The field {field} is missing.", parameter=field)
    return fields[field]


def _one_of(known: Mapping[str, Known], field: str, fields: Mapping[str, str]) -> Known:
    """What the field's text stands for; the first one known where it is empty."""
    text = fields.get(field) or next(iter(known))
    if text not in known:
        raise InvalidRequestError(f"The field {field!r} is {text[:40]!r}; it may be {', '.join(known)}.")
    return known[text]
