"""ImageField for forms: looks at the header of an upload, and says in a sentence what is wrong with it."""

from typing import Any

from django import forms
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.files.base import File

from image_processor.contrib.django.conf import conf
from image_processor.contrib.django.rendering import as_validation_error, check_upload, preset_named
from image_processor.contrib.django.uploads import read_upload
from image_processor.contrib.django.widgets import ImageInput, limits_hint
from image_processor.errors import FileTooLargeError, RejectedError
from image_processor.pipeline import Preset


class ImageField(forms.FileField):
    """
    An upload that a preset accepts: its type, its bytes and its pixels, by its header; nothing is decoded.

    A ModelForm and the admin use it for a model's ImageField by themselves.

    Args:
        preset: a Preset, or the name of one: of this package or of the project's own.
        max_length: of a file's name, which is not kept, so it is not looked at.
        options: those of django.forms.FileField. `error_messages` may have sentences for the codes of
            this package's errors, such as `unsupported_format` and `file_too_large`.
    """

    widget = ImageInput

    def __init__(
        self, *, preset: str | Preset = "avatar", max_length: int | None = None, **options: Any
    ) -> None:
        del max_length
        self.preset = _with_limit(preset_named(preset)) if isinstance(preset, str) else preset
        if _is_of_admin(options.get("widget")):
            options["widget"] = ImageInput
        super().__init__(**options)
        chosen: Any = self.widget
        if isinstance(chosen, ImageInput):
            chosen.hint = limits_hint(self.preset)

    def to_python(self, data: Any) -> Any:
        """The upload, ready to be saved; raises django's ValidationError with a sentence and a code."""
        upload: Any = super().to_python(data)
        if upload is None:
            return None
        try:
            check_upload(self._read(upload), self.preset)
        except RejectedError as error:
            raise self._refusal(error) from error
        finally:
            upload.seek(0)
        return upload

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        """What the browser offers to choose."""
        attributes = super().widget_attrs(widget)
        if isinstance(widget, forms.FileInput) and "accept" not in widget.attrs:
            attributes["accept"] = accepted_types(self.preset)
        return attributes

    def _read(self, upload: "File[bytes]") -> bytes:
        """What is known to be too large is not read at all."""
        allowed = self.preset.limits.max_bytes
        if upload.size > allowed:
            raise FileTooLargeError("The file is larger than is allowed.", max_bytes=allowed)
        return read_upload(upload, allowed)

    def _refusal(self, error: RejectedError) -> ValidationError:
        refusal = as_validation_error(error, self.preset)
        sentence = self.error_messages.get(error.code)
        return ValidationError(sentence, error.code, refusal.params) if sentence else refusal


def accepted_types(preset: Preset) -> str:
    """
    As the attribute `accept` lists them.

    HEIC by its endings too: few desktops know its type. Where Safari reads it, iPhones send it as it is.
    """
    types = [accepted.media_type for accepted in preset.accepts]
    endings = [".heic", ".heif"] if "image/heic" in types else []
    return ",".join([*types, *endings])


def _with_limit(preset: Preset) -> Preset:
    allowed = min(preset.limits.max_bytes, conf().max_bytes)
    return preset.model_copy(update={"limits": preset.limits.model_copy(update={"max_bytes": allowed})})


def _is_of_admin(widget: Any) -> bool:
    """Whether it is what the admin gives every file field; one that a project chose itself stays."""
    if widget is None or not apps.is_installed("django.contrib.admin"):
        return False
    from django.contrib.admin.widgets import AdminFileWidget  # noqa: PLC0415 - for those who have it

    return widget is AdminFileWidget or type(widget) is AdminFileWidget
