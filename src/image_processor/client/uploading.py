"""Uploads: the form of the service's own upload, and the three steps of a direct one."""

import json
from collections.abc import Mapping
from typing import Any

from image_processor.client.answers import Receipt, UploadTicket, read_json
from image_processor.client.bodies import Body, Content, OnProgress, form_body
from image_processor.client.calls import Caller, json_request
from image_processor.client.plans import Plan, Request, Run
from image_processor.errors import InvalidRequestError

UPLOAD = "/api/v1/images/upload"
DIRECT = "/api/v1/images/uploads"
HEAD_BYTES = 16
SIGNATURES = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"WEBP", 8, "image/webp"),
    (b"GIF8", 0, "image/gif"),
    (b"ftypavif", 4, "image/avif"),
    (b"ftyphei", 4, "image/heic"),
    (b"II*\0", 0, "image/tiff"),
    (b"MM\0*", 0, "image/tiff"),
)
"""First bytes, where they stand, and what they mean; the service looks for itself."""


def uploaded(
    caller: Caller, content: Content, wish: Mapping[str, Any], key: str, on_progress: OnProgress | None
) -> Plan[Receipt]:
    """Upload through the service. The wish has the names of the interface; what is None is not sent."""
    body, content_type = form_body(content, _texts(wish), on_progress)
    headers = {"Content-Type": content_type, "Idempotency-Key": key}
    return (yield from receipt(caller, Request("POST", UPLOAD, headers, body=body)))


def uploaded_directly(
    caller: Caller,
    content: Content,
    wish: Mapping[str, Any],
    content_type: str | None,
    on_progress: OnProgress | None,
) -> Plan[Receipt]:
    """Upload to where the service says, and have it completed."""
    if content.size is None or not content.is_repeatable:
        raise InvalidRequestError("A direct upload needs to know the size: give a file, bytes, or upload it.")
    asked = {
        "content_type": content_type or media_type((yield Run(lambda: content.head(HEAD_BYTES)))),
        "size_bytes": content.size,
        "sha256": (yield Run(content.sha256)),
        **wish,
    }
    ticket = yield from caller.ask(UploadTicket, json_request("POST", DIRECT, asked))
    yield from caller.call(_delivery(ticket, content, on_progress))
    return (yield from receipt(caller, Request("POST", ticket.complete_url)))


def receipt(caller: Caller, request: Request) -> Plan[Receipt]:
    """What the answer to a submission says, in its body and headers."""
    answer = yield from caller.call(request)
    return read_json(Receipt, answer.body).with_headers(answer.headers)


def media_type(head: bytes) -> str:
    """Of a file that begins so. Raises InvalidRequestError for one that is not known here."""
    for signature, offset, found in SIGNATURES:
        if head.startswith(signature, offset):
            return found
    raise InvalidRequestError("The type of the picture is not known here; say it as content_type.")


def _texts(wish: Mapping[str, Any]) -> dict[str, str]:
    """As the fields of a form."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in wish.items()
        if value is not None
    }


def _delivery(ticket: UploadTicket, content: Content, on_progress: OnProgress | None) -> Request:
    """What the address asks for; sent again it replaces what was sent before."""
    if ticket.method == "PUT":
        return Request("PUT", ticket.url, ticket.headers, body=Body(content, on_progress=on_progress))
    body, content_type = form_body(content, ticket.fields, on_progress)
    return Request("POST", ticket.url, {**ticket.headers, "Content-Type": content_type}, body=body)
