"""Markup: which variants of a picture stand in a page, and their HTML. The row is read; storage is not."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

from django.template import TemplateSyntaxError
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from image_processor.contrib.django.conf import Placeholders
from image_processor.contrib.django.details import State
from image_processor.contrib.django.field_files import ImageFieldFile, StoredImage
from image_processor.contrib.django.placeholder import has_alpha
from image_processor.pipeline import Fit, Resize

PREFERRED = ("image/avif", "image/webp")
"""Smaller than what every browser shows, so offered before it, in this order."""
UNIVERSAL = ("image/jpeg", "image/png", "image/gif")
"""What every browser shows."""
OPAQUE = "image/jpeg"
ONE_PIXEL = 1.0


class Shaped(Protocol):
    """What has a width and a height in pixels."""

    @property
    def width(self) -> int:
        """In pixels."""
        ...

    @property
    def height(self) -> int:
        """In pixels."""
        ...


AnyShaped = TypeVar("AnyShaped", bound=Shaped)


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a template says of a picture; `attributes` go to its element as they are, escaped."""

    alt: str
    only: tuple[str, ...] = ()
    sizes: str | None = None
    width: int | None = None
    height: int | None = None
    default: str | None = None
    placeholder: Placeholders = Placeholders.IMAGE
    nonce: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def picture_html(picture: ImageFieldFile | None, wish: Wish) -> SafeString:
    """
    A `<picture>`; a box of its size while there are no variants; the default, or nothing, without a picture.

    Raises TemplateSyntaxError for a variant in `only` that the preset does not have.
    """
    if not picture:
        return _plain(wish.default, wish)
    chosen = chosen_variants(picture, wish.only)
    if chosen:
        return _responsive(picture, chosen, wish)
    if picture.state is None:
        return _plain(picture.url, wish)
    if picture.state is State.FAILED and wish.default:
        return _plain(wish.default, wish)
    return _box(picture, wish)


def preview_html(picture: ImageFieldFile, wish: Wish, side: int) -> SafeString:
    """One image, its longer side of so many CSS pixels at most; twice as many pixels, where there are."""
    images = [image for image in picture.variants.values() if image.media_type in (*UNIVERSAL, *PREFERRED)]
    if not images:
        shape = _expected(picture) if picture.state else None
        within = _within(shape, side)._asdict() if shape else {"width": side}
        return picture_html(picture, replace(wish, **within))
    by_size = sorted(images, key=_longest)
    image = next((image for image in by_size if _longest(image) >= 2 * side), by_size[-1])
    own = {"src": image.url, **_within(image, side)._asdict()}
    return format_html("<img{}>", _written(_attributes(wish, own)))


def chosen_variants(picture: ImageFieldFile, only: Sequence[str] = ()) -> list[StoredImage]:
    """
    Variants of one shape, for a browser may take any of them: those of `only` that look like its first.

    Without `only` they are of the shape that most variants have; of the largest, where two have as many.
    Raises TemplateSyntaxError as `picture_html` does.
    """
    return _of_one_shape(_named(picture, picture.variants, only), is_first=bool(only))


def variant_url(picture: ImageFieldFile | None, name: str, default: str = "") -> str:
    """
    The address of a variant; the default while there is none.

    Of a row that tells nothing of its picture, because another field wrote it, the picture's own address.

    Raises TemplateSyntaxError for a variant that the preset does not have.
    """
    if not picture:
        return default
    found = _named(picture, picture.variants, [name])
    if found:
        return found[0].url
    return picture.url if picture.state is None else default


def srcset(images: Iterable[StoredImage]) -> str:
    """Of images of one shape, by their width; of two that are as wide the one with fewer bytes."""
    lightest = {image.width: image for image in sorted(images, key=lambda image: -image.variant.bytes)}
    return ", ".join(f"{_in_srcset(image.url)} {width}w" for width, image in sorted(lightest.items()))


def of_fallback(images: Sequence[StoredImage]) -> list[StoredImage]:
    """Those that the `<img>` itself names: what every browser shows, or else of the most common type."""
    types = {image.media_type for image in images}
    found = [image for image in images if image.media_type in UNIVERSAL]
    common = next((kind for kind in reversed(PREFERRED) if kind in types), images[0].media_type)
    return found or [image for image in images if image.media_type == common]


def _responsive(picture: ImageFieldFile, images: list[StoredImage], wish: Wish) -> SafeString:
    fallback = of_fallback(images)
    shown = _shown(max(images, key=_area), wish)
    sizes = wish.sizes or f"(max-width: {shown.width}px) 100vw, {shown.width}px"
    rest = [image for image in images if image not in fallback]
    types = sorted({image.media_type for image in rest}, key=_rank)
    sources = [_of_type(rest, kind) for kind in types]
    own = {"src": _wide_enough(fallback, shown.width).url, "srcset": srcset(fallback), "sizes": sizes}
    style, attributes = _with_placeholder(picture, images, wish)
    return format_html(
        "{}<picture>{}<img{}></picture>",
        style,
        format_html_join(
            "", '<source type="{}" srcset="{}" sizes="{}">', ((kind, text, sizes) for kind, text in sources)
        ),
        _written(_attributes(wish, {**attributes, **own, **shown._asdict()})),
    )


def _attributes(wish: Wish, own: Mapping[str, Any]) -> dict[str, Any]:
    """`loading` goes before `src`: Firefox starts with what it has read by then."""
    given = {key: value for key, value in wish.attributes.items() if key not in own}
    return {"loading": "lazy", "decoding": "async", "alt": wish.alt, **given, **own}


def _written(attributes: Mapping[str, Any]) -> SafeString:
    """None and False are left out; True is a name alone."""
    given = [(name, value) for name, value in attributes.items() if value is not None and value is not False]
    return format_html_join(
        "", " {}{}", ((name, "" if value is True else _quoted(value)) for name, value in given)
    )


def _quoted(value: Any) -> SafeString:
    """Even a text that is safe between tags, as all of a template's own is, may not end an attribute."""
    text = conditional_escape(value).replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return mark_safe(f'="{text}"')  # noqa: S308 - it is escaped


def _plain(address: str | None, wish: Wish) -> SafeString:
    """One address of which nothing else is known."""
    if not address:
        return SafeString("")
    own = {"src": address, "width": wish.width, "height": wish.height}
    return format_html("<img{}>", _written(_attributes(wish, own)))


def _box(picture: ImageFieldFile, wish: Wish) -> SafeString:
    """As large as the picture will be; SVG, because its attributes are no style that a policy forbids."""
    shown = _shown(_expected(picture, wish.only), wish)
    spoken = {"role": "img", "aria-label": wish.alt} if wish.alt else {"aria-hidden": "true"}
    attributes = {
        **{key: value for key, value in wish.attributes.items() if key != "loading"},
        **spoken,
        **shown._asdict(),
        "viewBox": f"0 0 {shown.width} {shown.height}",
        "data-state": str(picture.state),
    }
    return format_html(
        '<svg xmlns="http://www.w3.org/2000/svg"{}>{}</svg>', _written(attributes), _filling(picture, wish)
    )


def _filling(picture: ImageFieldFile, wish: Wish) -> SafeString:
    layers = []
    if picture.color and wish.placeholder is not Placeholders.NONE:
        layers.append(format_html('<rect width="100%" height="100%" fill="{}"/>', picture.color))
    if picture.placeholder and wish.placeholder is Placeholders.IMAGE:
        pattern = '<image width="100%" height="100%" preserveAspectRatio="none" href="{}"/>'
        layers.append(format_html(pattern, picture.placeholder))
    return format_html_join("", "{}", ((layer,) for layer in layers))


def _with_placeholder(
    picture: ImageFieldFile, images: Sequence[StoredImage], wish: Wish
) -> tuple[SafeString, dict[str, Any]]:
    """A `<style>` where a policy asks for a nonce, and the attributes of the picture's element."""
    css = _background(picture, images, wish)
    if not css:
        return SafeString(""), {}
    if wish.nonce is None:
        own = wish.attributes.get("style")
        return SafeString(""), {"style": f"{css};{own}" if own else css}
    name = f"ip-{hashlib.sha256(css.encode()).hexdigest()[:12]}"
    classes = " ".join(filter(None, [name, str(wish.attributes.get("class") or "")]))
    style = format_html('<style nonce="{}">.{}{{{}}}</style>', wish.nonce, name, mark_safe(css))  # noqa: S308 - ours
    return style, {"class": classes}


def _background(picture: ImageFieldFile, images: Sequence[StoredImage], wish: Wish) -> str:
    """None behind a picture that would let it through for ever."""
    seen_through = has_alpha(picture.thumbhash or "") and any(image.media_type != OPAQUE for image in images)
    if wish.placeholder is Placeholders.NONE or seen_through or not picture.color:
        return ""
    if wish.placeholder is Placeholders.COLOR or not picture.placeholder:
        return f"background:{picture.color}"
    return f"background:{picture.color} url({picture.placeholder}) 0 0/100% 100% no-repeat"


def _named(
    picture: ImageFieldFile, variants: Mapping[str, AnyShaped], only: Sequence[str]
) -> list[AnyShaped]:
    """All without names. A row that was written with another preset may lack some of them."""
    if not only:
        return list(variants.values())
    missing = [name for name in only if name not in variants]
    known = [variant.name for variant in picture.field.preset.pipeline.variants] if missing else []
    for name in missing:
        if name not in known:
            raise TemplateSyntaxError(f"There is no variant {name!r}; there are {', '.join(known)}.")
    return [variants[name] for name in only if name in variants]


def _of_one_shape(images: list[AnyShaped], *, is_first: bool) -> list[AnyShaped]:
    groups: list[list[AnyShaped]] = []
    for image in sorted(images, key=_area, reverse=True):
        like = next((group for group in groups if _are_alike(group[0], image)), None)
        if like is None:
            groups.append([image])
        else:
            like.append(image)
    if is_first:
        return next((group for group in groups if images[0] in group), [])
    return max(groups, key=len, default=[])


def _are_alike(large: Shaped, small: Shaped) -> bool:
    """Whether the sides have one ratio, but for a pixel of rounding."""
    difference = abs(small.width * large.height - small.height * large.width)
    return difference <= ONE_PIXEL * max(large.width, large.height)


def _expected(picture: ImageFieldFile, only: Sequence[str] = ()) -> Size:
    """How large the largest of the variants will be, as far as the preset tells without the picture."""
    size = Size(picture.width or 1, picture.height or 1)
    variants = {
        variant.name: _resized(size, variant.operations) for variant in picture.field.preset.pipeline.variants
    }
    return _of_one_shape(_named(picture, variants, only), is_first=bool(only))[0]


def _resized(size: Size, operations: Iterable[object]) -> Size:
    for operation in operations:
        if isinstance(operation, Resize):
            size = _brought_to(size, operation)
    return size


def _brought_to(size: Size, resize: Resize) -> Size:
    if resize.width and resize.height and resize.fit in (Fit.EXACT, Fit.COVER, Fit.PAD):
        return Size(resize.width, resize.height)
    if resize.percent:
        factor = resize.percent / 100
    else:
        sides = ((resize.width, size.width), (resize.height, size.height))
        factors = [wanted / side for wanted, side in sides if wanted]
        factor = max(factors) if resize.fit is Fit.OUTSIDE else min(factors)
    if not resize.allow_enlarge:
        factor = min(1.0, factor)
    return Size(*(max(1, round(side * factor)) for side in size))


def _shown(largest: Shaped, wish: Wish) -> Size:
    """What `width` and `height` say; one that is given decides the other."""
    if wish.width and wish.height:
        return Size(wish.width, wish.height)
    factor = 1.0
    if wish.width:
        factor = wish.width / largest.width
    elif wish.height:
        factor = wish.height / largest.height
    return Size(max(1, round(largest.width * factor)), max(1, round(largest.height * factor)))


def _within(shape: Shaped, side: int) -> Size:
    factor = min(1.0, side / max(shape.width, shape.height))
    return Size(*(max(1, round(length * factor)) for length in (shape.width, shape.height)))


def _wide_enough(images: Sequence[StoredImage], width: int) -> StoredImage:
    """The narrowest that need not be enlarged."""
    by_width = sorted(images, key=lambda image: image.width)
    return next((image for image in by_width if image.width >= width), by_width[-1])


def _of_type(images: Iterable[StoredImage], kind: str) -> tuple[str, str]:
    return kind, srcset(image for image in images if image.media_type == kind)


def _rank(media_type: str) -> int:
    return PREFERRED.index(media_type) if media_type in PREFERRED else len(PREFERRED)


def _longest(image: Shaped) -> int:
    return max(image.width, image.height)


def _area(image: Shaped) -> int:
    return image.width * image.height


def _in_srcset(address: str) -> str:
    """White space ends an address there, and so does a comma at its end."""
    address = re.sub(r"\s", lambda space: f"%{ord(space[0]):02X}", address)
    return f"{address[:-1]}%2C" if address.endswith(",") else address
