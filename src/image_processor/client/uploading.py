"""Uploads: the forms of the service's own ones, and the three steps of a direct one."""

import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from image_processor.client.answers import (
    BatchAccepted,
    BatchEntry,
    Outcome,
    Receipt,
    ThumbnailReceipt,
    UploadTicket,
    read_json,
)
from image_processor.client.bodies import Body, Content, OnProgress, form_body
from image_processor.client.calls import Caller, json_request
from image_processor.client.plans import Plan, Request, Run
from image_processor.client.refusals import UnexpectedAnswerError, entry_refusal
from image_processor.errors import InvalidRequestError

UPLOAD = "/api/v1/images/upload"
BATCH = "/api/v1/images/batch"
THUMBNAILS = "/images/upload"
DIRECT = "/api/v1/images/uploads"
HEAD_BYTES = 16
MAX_KEY_LENGTH = 255
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


Wish = Mapping[str, Any]
"""What is asked for an upload, by the names of the interface; what is None is not sent."""


def uploaded(
    caller: Caller, content: Content, wish: Wish, key: str, on_progress: OnProgress | None
) -> Plan[Receipt]:
    """Upload through the service."""
    return (yield from receipt(caller, _form(UPLOAD, ("file", [content]), wish, key, on_progress)))


def uploaded_for_thumbnails(
    caller: Caller, content: Content, wish: Wish, key: str, on_progress: OnProgress | None
) -> Plan[ThumbnailReceipt]:
    """Upload a picture whose preset is that of the path."""
    form = _form(THUMBNAILS, ("image", [content]), wish, key, on_progress)
    return (yield from caller.ask(ThumbnailReceipt, form))


def uploaded_together(
    caller: Caller, contents: Sequence[Content], wish: Wish, key: str, on_progress: OnProgress | None
) -> Plan[list[Outcome]]:
    """Upload several in one form."""
    answer = yield from caller.call(_form(BATCH, ("files", contents), wish, key, on_progress))
    entries = sorted(read_json(BatchAccepted, answer.body).files, key=attrgetter("index"))
    if [entry.index for entry in entries] != list(range(len(contents))):
        raise UnexpectedAnswerError("The service's answer does not tell of each file once.")
    return [_outcome(entry, answer.headers) for entry in entries]


def _form(
    path: str, files: tuple[str, Sequence[Content]], wish: Wish, key: str, on_progress: OnProgress | None
) -> Request:
    body, content_type = form_body(_texts(wish), *files, on_progress)
    headers = {"Content-Type": content_type, "Idempotency-Key": checked_key(key)}
    return Request("POST", path, headers, body=body)


def _outcome(entry: BatchEntry, headers: Mapping[str, str]) -> Outcome:
    if entry.error is not None:
        return Outcome(index=entry.index, error=entry_refusal(entry.error, headers))
    told = entry.model_dump_json(include={"job_id", "image_id", "status_url"})
    return Outcome(index=entry.index, receipt=read_json(Receipt, told).with_headers(headers))


def opened(caller: Caller, asked: Wish) -> Plan[UploadTicket]:
    """The address of a direct upload."""
    ticket = yield from caller.ask(UploadTicket, json_request("POST", DIRECT, asked))
    if not ticket.url.startswith(("/", "http://", "https://")):
        raise UnexpectedAnswerError("The service names no address to upload to.")
    return ticket


def uploaded_directly(
    caller: Caller,
    content: Content,
    wish: Wish,
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
    ticket = yield from opened(caller, asked)
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


def checked_key(key: str) -> str:
    """An idempotency key that can stand in a header. Raises InvalidRequestError."""
    if not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise InvalidRequestError(f"An idempotency key is 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
    return key


def _texts(wish: Wish) -> dict[str, str]:
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
    body, content_type = form_body(ticket.fields, "file", [content], on_progress)
    return Request("POST", ticket.url, {**ticket.headers, "Content-Type": content_type}, body=body)
