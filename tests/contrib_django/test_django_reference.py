"""The reference tells of every setting, argument, tag, signal, option and check, and of no other."""

import inspect
import re
from pathlib import Path

import pytest
from django.core.management import load_command_class
from django.db.models import FileField
from django.dispatch import Signal
from django.template import Context, Engine

from contrib_django.gallery.models import Photo
from image_processor.contrib.django import checks, signals
from image_processor.contrib.django.conf import Conf
from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.templatetags.image_processor import register

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "django.md").read_text(encoding="utf-8")
GUIDES = ("django", "from-sorl-thumbnail", "from-easy-thumbnails", "from-django-imagekit")


def section(title: str) -> str:
    """What stands under a heading, up to the next of its rank."""
    rank, _, _ = title.partition(" ")
    return re.split(rf"^{rank} ", REFERENCE.split(f"{title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> dict[str, str]:
    """The second cell of each row of a table, by the name in its first."""
    return dict(re.findall(r"^\| `([^`]+)`[^|]* \| (.*?) \|", text, re.MULTILINE))


def test_every_setting_has_its_row_with_its_default():
    shown = {name: said.strip("`") for name, said in rows(section("## Settings")).items()}
    defaults = {name.upper(): field.default for name, field in Conf.model_fields.items()}
    assert shown.keys() == defaults.keys()
    for name, default in Conf().model_dump().items():
        as_written = f'"{default}"' if isinstance(default, str) else repr(default)
        assert shown[name.upper()] == as_written


def test_every_argument_of_the_field_has_its_row():
    own = {
        name: parameter
        for name, parameter in inspect.signature(ImageField.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    shown = rows(section("## Fields"))
    assert {name for name in shown if name.isidentifier()} == own.keys()
    for name in ("keep_source", "max_bytes"):
        assert shown[name].strip("`") == repr(own[name].default)
    assert issubclass(ImageField, FileField)


def test_every_attribute_that_the_reference_names_exists():
    file = Photo(picture="photos/1.jpg").picture
    named = set(re.findall(r"`(?:row\.picture)?\.([a-z]+)`", section("## Fields"))) - {"media_type"}
    assert {"url", "name", "width", "height", "state", "color", "thumbhash", "placeholder"} <= named
    assert {name for name in named if not hasattr(file, name)} == set()


def test_every_tag_has_its_row_and_can_be_written_so():
    shown = re.findall(r"^\| `\{% (\w+)([^%]*)%\}` \|", section("## Template tags"), re.MULTILINE)
    assert {name for name, _ in shown} == register.tags.keys()
    engine = Engine(
        libraries={"image_processor": "image_processor.contrib.django.templatetags.image_processor"}
    )
    for name, words in shown:
        template = engine.from_string(f"{{% load image_processor %}}{{% {name}{words}%}}")
        assert template.render(Context({"row": Photo()})) == ""


def test_every_signal_has_its_row():
    known = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert rows(section("## Signals")).keys() == known


@pytest.mark.parametrize("name", ["rebuild", "verify", "prune"])
def test_every_option_of_a_command_has_its_row(name):
    own = options_of("image_processor.contrib.django", f"image_processor_{name}")
    shown = set(re.findall(r"^\| `(--[a-z-]+)`", section(f"### image_processor_{name}"), re.MULTILINE))
    assert shown == own - options_of("django.core", "check") - {"--skip-checks"}


def options_of(app: str, command: str) -> set[str]:
    parser = load_command_class(app, command).create_parser("manage.py", command)
    return {word for action in parser._actions for word in action.option_strings if word.startswith("--")}


def test_every_check_has_its_row_with_its_sentence():
    shown = rows(section("## Checks"))
    assert shown == {f"image_processor.{number}": said for number, said in checks.MESSAGES.items()}


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_and_presets_in_guides_are_right(guide):
    text = (DOCS / "howto" / f"{guide}.md").read_text(encoding="utf-8")
    for command, words in re.findall(r"image_processor_(\w+)([^`\n]*)", text):
        known = options_of("image_processor.contrib.django", f"image_processor_{command}")
        assert set(re.findall(r"--[a-z-]+", words)) <= known, command
    presets = re.findall(r"^([A-Z]+ = Preset\(\n.*?^\))$", text, re.MULTILINE | re.DOTALL)
    assert presets
    imports = re.findall(r"^from image_processor\.pipeline import .*$", text, re.MULTILINE)
    for preset in presets:
        exec("\n".join([*imports, preset]), {})


@pytest.mark.parametrize("guide", GUIDES[1:])
def test_sizes_that_a_table_gives_as_equivalents_are_operations(guide):
    from image_processor.pipeline import Resize  # noqa: PLC0415 - named by the documents

    text = (DOCS / "howto" / f"{guide}.md").read_text(encoding="utf-8")
    written = [
        words
        for line in text.splitlines()
        if line.startswith("|")
        for words in re.findall(r"Resize\((\w+=[^)`]*)\)", line)
    ]
    assert written
    for words in written:
        assert isinstance(eval(f"Resize({words})"), Resize)
