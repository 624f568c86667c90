"""Whole examples for the OpenAPI document, put together from those of single fields, which have their own."""

import json
from typing import Any

JsonObject = dict[str, Any]


def with_example(media: JsonObject, document: JsonObject) -> None:
    """Give a body of the document an example, where it has none and its fields have some."""
    if "example" in media:
        return
    found = example(media.get("schema", {}), document)
    if found is not None:
        media["example"] = found


def example(schema: JsonObject, document: JsonObject) -> Any:
    """What a value of this schema looks like; None where nothing tells."""
    if "$ref" in schema:
        return example(referred(schema["$ref"], document), document)
    if "examples" in schema:
        return schema["examples"][0]
    if "contentSchema" in schema:
        return json.dumps(example(schema["contentSchema"], document))
    if "properties" in schema:
        return _object(schema["properties"], document)
    if schema.get("type") == "array":
        item = example(schema["items"], document)
        return None if item is None else [item]
    return _scalar(schema, document)


def _object(fields: JsonObject, document: JsonObject) -> JsonObject:
    """An object of all fields that have examples, or may be null."""
    found = {name: example(field, document) for name, field in fields.items()}
    return {name: value for name, value in found.items() if value is not None or _may_be_null(fields[name])}


def _scalar(schema: JsonObject, document: JsonObject) -> Any:
    if schema.get("default") is not None:
        return schema["default"]
    for key in ("const", "enum"):
        if key in schema:
            return schema[key] if key == "const" else schema[key][0]
    choices = (example(one, document) for one in schema.get("anyOf", ()))
    return next((value for value in choices if value is not None), None)


def _may_be_null(schema: JsonObject) -> bool:
    return {"type": "null"} in schema.get("anyOf", ())


def referred(reference: str, document: JsonObject) -> JsonObject:
    """What a `#/...` of the document points to."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    part_of: JsonObject = found
    return part_of
