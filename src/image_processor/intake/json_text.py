"""JSON that strangers send: bounded in length and depth, and fit to be handed back as it came."""

import json
from typing import Any

from image_processor.errors import InvalidRequestError

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32
"""Objects and lists inside one another; what writes the answers gives up at 255."""


def parse_json(text: str | bytes, *, max_depth: int, subject: str = "body") -> Any:
    """
    The value in a JSON text whose objects and lists stand at most so deep inside one another.

    Raises InvalidRequestError, also for what could not be written as JSON again; `subject` names it there.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_constant=_no_constant)
        if not _is_within(value, max_depth):
            raise InvalidRequestError(f"The {subject} nests more than {max_depth} levels deep.")
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The {subject} is not valid JSON.") from error
    return value


def parse_metadata(text: str) -> dict[str, Any]:
    """
    The JSON object in `text`; an empty text is an empty object.

    Raises InvalidRequestError for anything else, and for what could not be handed back as it came.
    """
    if not text.strip():
        return {}
    check_length(text)
    metadata = parse_json(text, max_depth=MAX_METADATA_DEPTH, subject="metadata")
    if not isinstance(metadata, dict):
        raise InvalidRequestError("The metadata is JSON, but not an object.")
    return metadata


def check_length(text: str) -> None:
    """Raise InvalidRequestError for metadata that is longer, as JSON, than is kept."""
    if len(text.encode(errors="surrogatepass")) > MAX_METADATA_BYTES:
        raise InvalidRequestError(
            f"The metadata is longer than {MAX_METADATA_BYTES} bytes.", parameter="metadata"
        )


def _is_within(value: Any, depth: int) -> bool:
    """Whether objects and lists stand at most so deep inside one another."""
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_within(item, depth - 1) for item in items)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
