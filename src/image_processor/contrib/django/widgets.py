"""Widgets: the input of a picture with a preview, for forms and the admin. No script, no style attribute."""

from typing import TYPE_CHECKING, Any, cast

from django.forms import ClearableFileInput, Media
from django.utils.text import format_lazy
from django.utils.translation import gettext, gettext_lazy

from image_processor.contrib.django.conf import Placeholders
from image_processor.contrib.django.details import State
from image_processor.contrib.django.field_files import ImageFieldFile
from image_processor.contrib.django.markup import Wish, preview_html
from image_processor.pipeline import Preset

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

MIB = 1024 * 1024
PREVIEW_SIDE = 128
"""Of the preview's longer side, in CSS pixels."""


class ImageInput(ClearableFileInput):
    """A file input that shows the present picture, from its row alone, and offers to remove it."""

    template_name = "image_processor/image_input.html"
    initial_text = cast("str", gettext_lazy("Present picture"))
    input_text = cast("str", gettext_lazy("Another picture"))
    clear_checkbox_label = cast("str", gettext_lazy("Remove the picture"))
    hint: "StrPromise | str" = ""
    """What is accepted, for people; a form field of ours sets it."""

    @property
    def media(self) -> Media:
        """A stylesheet that follows the admin's colours, or else the page's."""
        return Media(css={"all": ["image_processor/image_input.css"]})

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Of the template."""
        context = super().get_context(name, value, attrs)
        widget = context["widget"]
        widget["hint"] = self.hint
        if self.hint and widget["attrs"].get("id"):
            widget["hint_id"] = f"{widget['attrs']['id']}_hint"
            described = [widget["attrs"].get("aria-describedby"), widget["hint_id"]]
            widget["attrs"]["aria-describedby"] = " ".join(filter(None, described))
        if widget["is_initial"]:
            widget.update(preview(value, str(self.initial_text)))
        return context


def preview(value: Any, alt: str) -> dict[str, Any]:
    """The picture in small; where to see it whole; and what is to say of it. A source is not shown."""
    if not isinstance(value, ImageFieldFile):
        return {}
    return {
        "preview": preview_html(value, Wish(alt=alt, placeholder=Placeholders.IMAGE), PREVIEW_SIDE),
        "address": "" if value.state in (State.PENDING, State.FAILED) else value.url,
        "remark": _remark(value),
    }


def _remark(picture: ImageFieldFile) -> str:
    if picture.state is State.PENDING:
        return gettext("This picture is being prepared.")
    if picture.state is State.FAILED:
        return (picture.details and picture.details.error) or gettext("The picture was refused.")
    return ""


def limits_hint(preset: Preset) -> "StrPromise":
    """Such as `JPEG, PNG, HEIC; up to 5 MB.`, in the language of whoever sees it."""
    formats = ", ".join(accepted.label for accepted in preset.accepts)
    megabytes = f"{preset.limits.max_bytes / MIB:g}"
    return format_lazy(gettext_lazy("{formats}; up to {megabytes} MB."), formats=formats, megabytes=megabytes)
