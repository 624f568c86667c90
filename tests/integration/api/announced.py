"""Whether an answer is one that the OpenAPI schema announces: its status, its type, its body."""

import re
from collections.abc import Iterator
from typing import Any

import httpx

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def responses(schema: dict[str, Any], operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The answers of an operation by status; those that all share are looked up."""
    shared = schema["components"]["responses"]
    return {
        status: shared[found["$ref"].removeprefix("#/components/responses/")] if "$ref" in found else found
        for status, found in operation["responses"].items()
    }


class Announced:
    """The schema of an API, as a judge of what the API answers."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._paths = sorted(schema["paths"], key=lambda path: ("{" in path, path.count("{")))
        self.seen: set[tuple[str, str, int]] = set()
        """Method, path template and status of every answer that was checked."""

    def check(self, response: httpx.Response) -> None:
        """Raise AssertionError where the answer is not an announced one."""
        response.read()
        template = self._template(response.request.url.path)
        method = response.request.method.lower().replace("head", "get")
        if template is None or method not in self._schema["paths"][template]:
            assert response.status_code < 500, "a failure of ours on a path that is not announced"
            return
        announced = responses(self._schema, self._schema["paths"][template][method])
        where = f"{method.upper()} {template} -> {response.status_code}"
        assert str(response.status_code) in announced, f"{where} is not announced"
        self.seen.add((method.upper(), template, response.status_code))
        self._check_body(response, announced[str(response.status_code)].get("content", {}), where)

    def _check_body(self, response: httpx.Response, content: dict[str, Any], where: str) -> None:
        if response.request.method == "HEAD":  # what is sent as its body, the server drops
            return
        if not content:
            assert response.content == b"", f"{where} has a body"
            return
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in content, f"{where} is of type {media_type}"
        if media_type == "application/json":
            faults = list(self._faults(response.json(), content[media_type]["schema"], "body"))
            assert faults == [], where

    def _template(self, path: str) -> str | None:
        for template in self._paths:
            pattern = re.sub(
                r"\\\{\w+\\\}", ".+" if template.startswith("/storage") else "[^/]+", re.escape(template)
            )
            if re.fullmatch(pattern, path):
                return template
        return None

    def _faults(self, value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/components/schemas/")
            yield from self._faults(value, self._schema["components"]["schemas"][name], where)
        elif "anyOf" in schema:
            if all(list(self._faults(value, one, where)) for one in schema["anyOf"]):
                yield f"{where}: {value!r} is none of what is allowed"
        elif "type" in schema and not _is_of(value, schema["type"]):
            yield f"{where}: {value!r} is no {schema['type']}"
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{where}: {value!r} is none of {schema['enum']}"
        elif isinstance(value, dict):
            yield from self._object_faults(value, schema, where)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                yield from self._faults(item, schema.get("items", {}), f"{where}.{number}")

    def _object_faults(self, value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
        for name in schema.get("required", []):
            if name not in value:
                yield f"{where}.{name} is missing"
        known, others = (
            schema.get("properties", {}),
            schema.get("additionalProperties", not schema.get("properties")),
        )
        for name, item in value.items():
            if name in known:
                yield from self._faults(item, known[name], f"{where}.{name}")
            elif others is False:
                yield f"{where}.{name} is not announced"
            elif isinstance(others, dict):
                yield from self._faults(item, others, f"{where}.{name}")


def _is_of(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and not (isinstance(value, bool) and name in ("integer", "number"))
