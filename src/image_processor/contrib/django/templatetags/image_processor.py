"""The tags of `{% load image_processor %}`. What they print is made in `markup`."""

from collections.abc import Iterable
from typing import Any

from django import template
from django.template import Context, TemplateSyntaxError
from django.utils.safestring import SafeString

from image_processor.contrib.django.conf import Placeholders, conf
from image_processor.contrib.django.field_files import ImageFieldFile
from image_processor.contrib.django.markup import (
    Wish,
    chosen_variants,
    of_fallback,
    picture_html,
    variant_url,
)
from image_processor.contrib.django.markup import srcset as srcset_of

register = template.Library()


@register.simple_tag(takes_context=True)
def picture(context: Context, image: ImageFieldFile | None, *, alt: str, **options: Any) -> SafeString:
    """
    `{% picture row.picture alt="Ada" sizes="(max-width: 600px) 100vw, 600px" class="round" %}`.

    Args:
        context: the template's.
        image: an ImageField of a row.
        alt: what stands for the picture where it is not seen; `""` where it only decorates.
        options: `only="thumbnail,profile"`, `sizes`, `width`, `height`, `default` (an address),
            `placeholder` (`image`, `color` or `none`), `csp_nonce`; all else is an attribute of the
            `<img>`: `class`, `id`, `loading`, `fetchpriority`, `data_...` ...
    """
    return picture_html(
        image or None,
        Wish(
            alt="" if alt is None else str(alt),
            only=_names(options.pop("only", None)),
            sizes=options.pop("sizes", None) or None,
            width=_pixels("width", options.pop("width", None)),
            height=_pixels("height", options.pop("height", None)),
            default=options.pop("default", None) or None,
            placeholder=_placeholder(options.pop("placeholder", None)),
            nonce=_nonce(context, options.pop("csp_nonce", None)),
            attributes={name.replace("_", "-"): value for name, value in options.items()},
        ),
    )


@register.simple_tag
def image_url(image: ImageFieldFile | None, variant: str, default: str = "") -> str:
    """`{% image_url row.picture "thumbnail" %}`; the default while there is no such file."""
    return variant_url(image or None, variant, default)


@register.simple_tag
def srcset(image: ImageFieldFile | None, only: str | Iterable[str] | None = None) -> str:
    """`<img srcset="{% srcset row.picture only="thumbnail,profile" %}">`: of the type that `<img>` takes."""
    chosen = chosen_variants(image, _names(only)) if image else []
    return srcset_of(of_fallback(chosen)) if chosen else ""


@register.simple_tag
def placeholder(image: ImageFieldFile | None) -> str:
    """`<img src="{% placeholder row.picture %}">`: a PNG as a `data:` URL, or nothing."""
    return (image.placeholder or "") if image else ""


def _names(only: str | Iterable[str] | None) -> tuple[str, ...]:
    names = only.split(",") if isinstance(only, str) else only or ()
    return tuple(name.strip() for name in names if name.strip())


def _pixels(name: str, value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        pixels = int(value)
    except (TypeError, ValueError):
        pixels = 0
    if pixels < 1:
        raise TemplateSyntaxError(f"{name} is a whole number of pixels, unlike {value!r}.")
    return pixels


def _placeholder(value: str | None) -> Placeholders:
    try:
        return Placeholders(value) if value else conf().placeholders
    except ValueError:
        raise TemplateSyntaxError(
            f"placeholder is one of {', '.join(Placeholders)}, unlike {value!r}."
        ) from None


def _nonce(context: Context, given: Any) -> str | None:
    """As given; of Django's own middleware (from 6.0); of django-csp. They are false until they are read."""
    found = [given, context.get("csp_nonce"), getattr(context.get("request"), "csp_nonce", None)]
    return next((str(nonce) for nonce in found if nonce is not None and nonce != ""), None)
