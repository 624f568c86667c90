"""The documents tell of everything there is and of nothing there is not, and their links lead somewhere."""

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from image_processor import errors
from image_processor.api.app import create_app
from image_processor.api.errors import HTTP_CODES
from image_processor.bootstrap import build_app
from image_processor.cli import app as command_line
from image_processor.client import UnexpectedAnswerError, UnreachableError
from image_processor.contrib.django.conf import Conf
from image_processor.pipeline import load_presets
from image_processor.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_OTHERWISE = {
    "cors_origins": "none",
    "data_path": "`data`",
    "allowed_mime_types": "JPEG, PNG, WebP",
    "auth_required": "`true`",
    "jwt_secret_key": "none",
    "jwt_previous_secrets": "none",
    "jwt_public_key": "none",
    "jwt_jwks_url": "none",
    "jwt_audience": "none",
    "jwt_issuer": "none",
    "version": "the package's own",
    "database_path": "`DATA_PATH/processor.db`",
    "storage_path": "`DATA_PATH/storage`",
    "staging_path": "`DATA_PATH/staging`",
    "presets_file": "none",
    "workers": "the number of processors",
    "database_url": "none",
    "celery_broker_url": "none",
    "join_duplicates": "`true`",
    "file_roots": "none",
    "private_networks": "none",
    "webhook_secret": "none",
    "cdn_url": "none",
    "cloudfront_distribution_id": "none",
    "s3_bucket": "none",
    "s3_incoming_bucket": "`S3_BUCKET`",
    "s3_job_buckets": "none",
    "aws_region": "what boto3 finds, else `us-east-1`",
    "aws_access_key_id": "what boto3 finds",
    "aws_secret_access_key": "what boto3 finds",
    "aws_session_token": "what boto3 finds",
    "s3_endpoint_url": "none",
    "s3_public_endpoint_url": "`S3_ENDPOINT_URL`",
    "s3_sse": "`false`",
    "s3_storage_class": "none",
}
"""Defaults that are not written as they are in the code."""


def rows(path):
    """The cells of every row of every table of a document, by the first cell's code."""
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = (line.strip("| ").split(" | ") for line in lines if line.startswith("| `"))
    return {row[0].strip("`"): row[1:] for row in cells}


def prose(path):
    """A document without its fenced parts."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def fences(path, language):
    return [text for name, text in FENCE.findall(path.read_text(encoding="utf-8")) if name == language]


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    app = build_app(load_settings(data_path=tmp_path_factory.mktemp("docs"), jwt_secret_key="x" * 32))
    schema = create_app(app).openapi()
    app.close()
    return schema


def operations(schema):
    return {(method.upper(), path) for path, item in schema["paths"].items() for method in item}


def test_every_setting_has_its_row_and_no_other_has():
    documented = rows(REFERENCE / "settings.md")
    assert set(documented) == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_default_of_a_setting_is_what_the_documents_say(name):
    field = Settings.model_fields[name]
    said = rows(REFERENCE / "settings.md")[name.upper()][0].strip()
    if name == "image_sizes":
        assert json.loads(said.strip("`")) == field.get_default(call_default_factory=True)
    else:
        assert said == SHOWN_OTHERWISE.get(name, f"`{field.default}`")


OF_THE_APP = {
    path
    for path in DOCUMENTS
    if "django" in path.name or path.name.startswith("from-") or path.name == "README.md"
}
OF_DJANGO = {
    "IMAGE_PROCESSOR",
    "THUMBNAIL_ALTERNATIVE_RESOLUTIONS",
    "INSTALLED_APPS",
    "MEDIA_ROOT",
    "MEDIA_URL",
}


def test_settings_that_documents_name_exist():
    known = (
        {name.upper() for name in Settings.model_fields}
        | {"JOB_ID", "DATA_PATH", "TOKEN", "NAME"}
        | {"STANDARD_IA"}
    )
    for path in DOCUMENTS:
        named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", prose(path)))
        django = {name.upper() for name in Conf.model_fields} | OF_DJANGO if path in OF_THE_APP else set()
        assert named <= known | django, path.name


def codes():
    def below(kind):
        return {kind} | {found for child in kind.__subclasses__() for found in below(child)}

    known = below(errors.ImageProcessorError) | {UnexpectedAnswerError, UnreachableError}
    ours = {kind.code: kind.status for kind in known}
    return ours | {code: status for status, code in HTTP_CODES.items()}


@pytest.mark.parametrize(("code", "status"), sorted(codes().items()))
def test_every_error_code_has_its_row_with_its_status(code, status):
    assert rows(REFERENCE / "errors.md")[code][0].strip() == str(status)


def test_no_row_is_of_an_error_that_there_is_not():
    elsewhere = {"client_disconnected", "http_error"}
    source = (ROOT / "src/image_processor/api/errors.py").read_text(encoding="utf-8")
    assert all(f'"{code}"' in source for code in elsewhere)
    assert set(rows(REFERENCE / "errors.md")) == set(codes()) | elsewhere


def test_every_path_is_documented_and_no_other_is(schema):
    text = (REFERENCE / "http.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(GET|POST|DELETE|PUT|PATCH) (/[^`?]*)", text))
    assert documented == operations(schema)


def test_paths_that_documents_name_exist(schema):
    patterns = [re.sub(r"\\\{key\\\}", ".*", re.escape(path)) for _, path in operations(schema)]
    patterns = [re.sub(r"\\\{\w+\\\}", "[^/]+", pattern) for pattern in patterns]
    for path in DOCUMENTS:
        for named in re.findall(r"(?<![\w.])/api/v1/[\w/{}.-]*", path.read_text(encoding="utf-8")):
            assert any(re.fullmatch(pattern, named.rstrip(".")) for pattern in patterns) or any(
                pattern.startswith(re.escape(named.rstrip("/"))) for pattern in patterns
            ), f"{path.name}: {named}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(path)):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https"
            continue
        linked = (path.parent / parts.path).resolve() if parts.path else path
        assert linked.exists(), target
        if parts.fragment:
            assert parts.fragment in headings(linked), target


def headings(path):
    """The anchors of a document's headings."""
    texts = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in texts}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/**/*.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_document_can_be_reached_from_the_readme(path):
    seen, waiting = set(), [README]
    while waiting:
        document = waiting.pop()
        seen.add(document)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", prose(document)):
            linked = (document.parent / target).resolve()
            if linked not in seen and linked.is_file():
                waiting.append(linked)
    assert path.resolve() in seen


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_exist(path):
    for named in re.findall(r"`((?:src|tests|docs|bench|examples|requirements)/[\w./-]+)`", prose(path)):
        assert (ROOT / named).exists(), named
    for named in re.findall(r"`((?:\w+/)*\w+\.py)`", prose(path)):
        assert list((ROOT / "src").rglob(named)) or (ROOT / named).exists(), named


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_documents_is_python(path):
    for text in fences(path, "python"):
        compile(text, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_json_in_documents_is_json(path):
    for text in fences(path, "json"):
        json.loads(text)


def test_presets_in_documents_are_presets(tmp_path):
    found = [text for path in DOCUMENTS for text in fences(path, "toml")]
    assert found
    for text in found:
        tomllib.loads(text)
        (tmp_path / "own.toml").write_text(text, encoding="utf-8")
        assert load_presets(tmp_path / "own.toml")


def test_the_names_in_the_readmes_python_are_those_of_the_answers(schema):
    bodies = schema["components"]["schemas"]
    python = "\n".join(fences(README, "python"))
    keys = set(re.findall(r"\[['\"](\w+)['\"]\]", python))
    known = {name for body in bodies.values() for name in body.get("properties", {})} | {"medium"}
    assert keys
    assert keys <= known
    form = schema["paths"]["/api/v1/images/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]
    fields = set(form["schema"]["properties"])
    assert set(re.findall(r'-F ["\'](\w+)=', README.read_text(encoding="utf-8"))) <= fields
    assert set(re.findall(r'(?:files|data)=\{"(\w+)"', python)) <= fields


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist(path):
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
    commands = get_command(command_line).commands
    for line in re.findall(
        r"image-processor ((?:serve|worker|token|process|inspect|doctor|storage|backup|restore)\b[^`\n)]*)",
        text,
    ):
        name, *words = shlex.split(line.partition("#")[0], posix=True)
        command = commands[name].commands[words[0]] if name == "storage" else commands[name]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_words_stand_in_the_glossary_once():
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    words = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")][2:]
    assert len(words) == len(set(words))
    for word in (
        "source",
        "original",
        "operation",
        "step",
        "variant",
        "pipeline",
        "preset",
        "job",
        "lease",
        "engine",
    ):
        assert word in words
