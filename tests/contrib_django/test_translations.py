"""Every sentence of the app is translated, and what is compiled is what was written."""

import ast
import gettext
import re
from pathlib import Path

import pytest

from image_processor.contrib import django as app

FOLDER = Path(app.__file__).parent
LANGUAGES = sorted(path.name for path in (FOLDER / "locale").iterdir())
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext"}
PLACES = re.compile(r"%\(\w+\)s|\{\w+\}")


def marked() -> set[str]:
    """Of the app's Python files; its templates have no sentences of their own."""
    found = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
                texts = node.args[:2] if node.func.id.startswith("ngettext") else node.args[:1]
                found |= {ast.literal_eval(text) for text in texts}
    return found


def written(language: str) -> dict[str, str]:
    """A .po file's sentences; quoted lines that follow each other are one text."""
    text = (FOLDER / "locale" / language / "LC_MESSAGES" / "django.po").read_text("utf-8")
    entries = re.findall(r'^(msgid|msgstr)((?:\s+"(?:[^"\\]|\\.)*")+)', text, re.MULTILINE)
    texts = [
        "".join(ast.literal_eval(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', rest))
        for _, rest in entries
    ]
    assert [kind for kind, _ in entries] == ["msgid", "msgstr"] * (len(entries) // 2)
    return dict(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_translated_and_none_is_left_over(language):
    assert set(written(language)) - {""} == marked()
    assert [text for text, translated in written(language).items() if not translated] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_filled_in_is_named_alike(language):
    for text, translated in written(language).items():
        assert text == "" or set(PLACES.findall(text)) == set(PLACES.findall(translated)), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_file_is_the_written_one(language):
    with (FOLDER / "locale" / language / "LC_MESSAGES" / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog
    assert {text: compiled[text] for text in compiled if text} == {
        text: translated for text, translated in written(language).items() if text
    }


def test_german_is_there():
    assert "de" in LANGUAGES
    assert len(marked()) > 10


def test_templates_of_the_app_have_no_sentences_of_their_own():
    for path in (FOLDER / "templates").rglob("*.html"):
        bare = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", "", path.read_text("utf-8"))
        assert not re.search(r"\w", re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", bare)), path.name
