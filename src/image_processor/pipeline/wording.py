"""What is wrong with a value, in sentences: which field, what was given, and what it may be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from image_processor.pipeline.operations.fields import AspectRatio, Colour, OpaqueColour

MAX_SENTENCES = 3
MAX_SHOWN = 40
"""Characters of a value or a name that are repeated."""
MAX_SHOWN_BITS = 128
"""Of a whole number that is repeated."""
Schema = Mapping[str, Any]


def sentences(error: ValidationError, model: type[BaseModel], subject: str) -> str:
    """
    What is wrong: `blur: sigma is 1000; it must be from 0.3 to 100.` and its like.

    Args:
        error: what `model` raised.
        model: whose fields the error names.
        subject: the word that the caller knows it by.
    """
    schema = model.model_json_schema()
    found = dict.fromkeys(_sentence(fault, schema, subject) for fault in error.errors(include_url=False))
    return " ".join(list(found)[:MAX_SENTENCES])


def shown(value: Any) -> str:
    """A value as a sentence repeats it: short, and never the content of a file."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…")
    if isinstance(value, int) and value.bit_length() > MAX_SHOWN_BITS:
        return "a number of too many digits"
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    return "a list" if isinstance(value, (list, tuple)) else f"of type {type(value).__name__}"


def one_of(names: Sequence[str]) -> str:
    """`'a', 'b' or 'c'`."""
    quoted = [repr(name) for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def _sentence(fault: Mapping[str, Any], schema: Schema, subject: str) -> str:
    path, field = _field(schema, schema, fault["loc"])
    name = ".".join(path)
    if fault["type"] == "missing":
        return f"{subject} needs {name}."
    if fault["type"] == "extra_forbidden":
        known = ", ".join(key for key in schema["properties"] if key not in {"op", "format"})
        said = f"its fields are {known}" if known else "it has no fields"
        return f"{subject} has no field {shown(str(fault['loc'][-1]))}; {said}."
    must_be = " or ".join(dict.fromkeys(_phrases(field, schema))) if path else ""
    if not must_be:
        text = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
        return f"{text}." if text.startswith(f"{subject} ") else f"{subject}: {text}."
    return f"{subject}: {name} is {shown(fault['input'])}; it must be {must_be}."


def _field(schema: Schema, root: Schema, location: Sequence[int | str]) -> tuple[list[str], Schema]:
    """The path of a fault as far as it names fields, not members of a union; and the last one's schema."""
    path: list[str] = []
    for part in location:
        properties = _properties(schema, root)
        if part not in properties:
            break
        path.append(str(part))
        schema = properties[str(part)]
    return path, schema


def _properties(schema: Schema, root: Schema) -> Schema:
    return {
        name: field for kind in _kinds(schema, root) for name, field in kind.get("properties", {}).items()
    }


def _kinds(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The members of a union, references followed."""
    if "$ref" in schema:
        yield from _kinds(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    elif "anyOf" in schema:
        for member in schema["anyOf"]:
            yield from _kinds(member, root)
    else:
        yield schema


def _phrases(schema: Schema, root: Schema) -> Iterator[str]:
    """What each member of a union allows."""
    names = [name for kind in _kinds(schema, root) for name in _names(kind)]
    for kind in _kinds(schema, root):
        phrase = _phrase(kind)
        if phrase:
            yield phrase
    if names:
        yield one_of(names)


def _names(kind: Schema) -> Sequence[str]:
    return [str(name) for name in kind.get("enum", [kind["const"]] if "const" in kind else [])]


def _phrase(kind: Schema) -> str | None:
    is_name = "enum" in kind or "const" in kind
    phrase = None if is_name else _PHRASES.get(kind.get("type", ""))
    return phrase(kind) if phrase else None


def _range(kind: Schema) -> str:
    low, high = kind.get("minimum"), kind.get("maximum")
    above = kind.get("exclusiveMinimum")
    if above is not None:
        return f"above {above:g} and at most {high:g}" if high is not None else f"above {above:g}"
    if low is None:
        return f"of at most {high:g}" if high is not None else ""
    return f"from {low:.15g} to {high:.15g}" if high is not None else f"of at least {low:g}"


def _length(kind: Schema) -> str:
    unit = "bytes as base64" if kind.get("format", "").startswith("b") else "characters"
    low, high = kind.get("minLength", 0), kind.get("maxLength")
    return f"a text of {low} to {high} {unit}" if high is not None else "a text"


@cache
def _patterns() -> Mapping[str, str]:
    """What the patterns mean."""
    meanings = {
        Colour: "a colour such as '#ff8800', or '#ff880080' with transparency",
        OpaqueColour: "a colour such as '#ff8800'",
        AspectRatio: "two whole numbers such as '16:9'",
    }
    return {TypeAdapter(kind).json_schema()["pattern"]: text for kind, text in meanings.items()}


_PHRASES: Mapping[str, Callable[[Schema], str]] = {
    "integer": lambda kind: f"a whole number {_range(kind)}".strip(),
    "number": lambda kind: _range(kind) or "a number",
    "boolean": lambda _: "true or false",
    "string": lambda kind: _patterns().get(kind.get("pattern", "")) or _length(kind),
    "array": lambda _: "a list",
    "object": lambda kind: f"an object of {' and '.join(kind.get('properties', {}))}",
}
"""By JSON schema's types."""
