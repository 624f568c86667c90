"""What the template tags print, read as HTML; and what that costs: one query for a page, no storage."""

import base64
import io
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from django.core.files.storage import FileSystemStorage, Storage
from django.db import connection
from django.template import Context, Template, TemplateSyntaxError
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageStat

from contrib_django.gallery.models import Photo, Profile
from image_processor.contrib.django.details import ImageDetails, State, StoredVariant
from image_processor.contrib.django.placeholder import has_alpha, placeholder_url
from image_processor.testing import sample_images

THUMBHASH = "1QcSHQRnh493V4dIh4eXh1h4kJUI"
"""Of the format's own example, opaque and landscape."""


class Elements(HTMLParser):
    """The elements of a fragment in their order: (name, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice in <{tag}>"
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def __getitem__(self, name: str) -> dict:
        (only,) = [attributes for tag, attributes in self.found if tag == name]
        return only

    def names(self) -> list[str]:
        return [tag for tag, _ in self.found]


def stored(name: str, width: int, height: int, kind: str = "jpeg", size: int = 1000) -> StoredVariant:
    return StoredVariant(
        name=f"p/{name}.{kind}", width=width, height=height, bytes=size, media_type=f"image/{kind}"
    )


def a_row(model=Profile, *variants: StoredVariant, name: str | None = None, **details):
    """A row as the database would give it; nothing is stored anywhere."""
    named = {variant.name[2:].rpartition(".")[0]: variant for variant in variants}
    known = {"width": 400, "height": 300, "color": "#aabbcc", "thumbhash": THUMBHASH, **details}
    own = name or (variants[0].name if variants else "p/source.jpg")
    source = None if variants else own
    return model(picture=own, picture_details=ImageDetails(variants=named, source=source, **known))


def avatar(**details):
    return a_row(
        Profile,
        stored("original", 4000, 3000),
        stored("profile", 512, 512),
        stored("thumbnail", 128, 128),
        **details,
    )


def shown(tag: str, row=None, **context) -> Elements:
    return Elements(text(tag, row, **context))


def text(tag: str, row=None, **context) -> str:
    template = Template("{% load image_processor %}" + tag)
    return template.render(Context({"picture": row.picture if row else None, **context}))


def test_the_variants_of_one_shape_stand_in_the_srcset_by_width():
    image = shown('{% picture picture alt="Ada" class="round" fetchpriority="high" %}', avatar())["img"]
    assert image == {
        "loading": "lazy",
        "decoding": "async",
        "alt": "Ada",
        "class": "round",
        "fetchpriority": "high",
        "style": f"background:#aabbcc url({placeholder_url(THUMBHASH)}) 0 0/100% 100% no-repeat",
        "src": "/media/p/profile.jpeg",
        "srcset": "/media/p/thumbnail.jpeg 128w, /media/p/profile.jpeg 512w",
        "sizes": "(max-width: 512px) 100vw, 512px",
        "width": "512",
        "height": "512",
    }


def test_each_newer_type_has_a_source_avif_first_and_the_img_has_what_every_browser_shows():
    kinds = ("webp", "jpeg", "avif")
    sizes = ((300, 200), (600, 400), (150, 100))
    variants = [stored(f"{kind}{width}", width, height, kind) for kind in kinds for width, height in sizes]
    page = shown('{% picture picture alt="" sizes="50vw" %}', a_row(Photo, *variants))
    sources = [attributes for name, attributes in page.found if name == "source"]
    assert page.names() == ["picture", "source", "source", "img"]
    assert [source["type"] for source in sources] == ["image/avif", "image/webp"]
    assert sources[0]["srcset"] == (
        "/media/p/avif150.avif 150w, /media/p/avif300.avif 300w, /media/p/avif600.avif 600w"
    )
    assert {source["sizes"] for source in sources} == {"50vw"}
    assert page["img"]["src"] == "/media/p/jpeg600.jpeg"
    assert "avif" not in page["img"]["srcset"]


def test_pictures_that_were_never_enlarged_are_offered_once_and_those_rounded_count_as_alike():
    widths = {"thumbnail": (150, 113), "medium": (320, 240), "large": (320, 240), "original": (320, 240)}
    sizes = {"large": 900, "medium": 2000, "original": 3000, "thumbnail": 100}
    variants = [stored(name, *size, "webp", sizes[name]) for name, size in widths.items()]
    image = shown('{% picture picture alt="" %}', a_row(Photo, *variants))["img"]
    assert image["srcset"] == "/media/p/thumbnail.webp 150w, /media/p/large.webp 320w"


def test_only_chooses_and_its_first_decides_the_shape():
    assert shown('{% picture picture alt="" only="original" %}', avatar())["img"]["width"] == "4000"
    image = shown('{% picture picture alt="" only="thumbnail, original,profile" %}', avatar())["img"]
    assert image["srcset"] == "/media/p/thumbnail.jpeg 128w, /media/p/profile.jpeg 512w"


@pytest.mark.parametrize(
    ("given", "size", "src"),
    [
        ("width=100", ("100", "100"), "thumbnail"),
        ("height=200", ("200", "200"), "profile"),
        ("width=64 height=32", ("64", "32"), "thumbnail"),
        ("width=900", ("900", "900"), "profile"),
    ],
)
def test_one_side_decides_the_other_and_the_size_the_browser_is_told(given, size, src):
    image = shown(f'{{% picture picture alt="" {given} %}}', avatar())["img"]
    assert (image["width"], image["height"]) == size
    assert image["src"] == f"/media/p/{src}.jpeg"
    assert image["sizes"] == f"(max-width: {size[0]}px) 100vw, {size[0]}px"


def test_alt_has_to_be_said_but_may_be_empty():
    with pytest.raises(TemplateSyntaxError, match="alt"):
        text("{% picture picture %}", avatar())
    assert shown('{% picture picture alt="" %}', avatar())["img"]["alt"] == ""
    assert shown("{% picture picture alt=unknown %}", avatar())["img"]["alt"] == ""


@pytest.mark.parametrize(
    "tag",
    [
        '{% picture picture alt="" only="thumbnial" %}',
        '{% image_url picture "thumbnial" %}',
        '{% srcset picture only="thumbnial" %}',
        '{% picture picture alt="" width="wide" %}',
        '{% picture picture alt="" width=0 %}',
        '{% picture picture alt="" placeholder="blur" %}',
    ],
)
def test_a_slip_of_the_template_is_an_error_that_names_what_there_is(tag):
    with pytest.raises(TemplateSyntaxError, match=r"original, profile, thumbnail|pixels|image, color, none"):
        text(tag, avatar())


def test_a_row_that_was_made_with_another_preset_shows_what_it_has():
    row = a_row(Profile, stored("original", 400, 300), stored("thumbnail", 128, 128))
    assert shown('{% picture picture alt="" only="profile,thumbnail" %}', row)["img"]["width"] == "128"
    assert text('{% image_url picture "profile" "/none.png" %}', row) == "/none.png"


HOSTILE = '"><script>alert(1)</script><img x="\'&'


def test_nothing_breaks_out_of_an_attribute():
    page = shown(
        "{% picture picture alt=evil class=evil title=evil sizes=evil csp_nonce=missing style=evil %}",
        avatar(),
        evil=HOSTILE,
    )
    assert page.names() == ["picture", "img"]
    assert {page["img"][name] for name in ("alt", "class", "title", "sizes")} == {HOSTILE}
    assert shown("{% picture picture alt=evil|safe %}", avatar(), evil=HOSTILE).names() == ["picture", "img"]
    assert shown("{% picture picture alt='' default=evil %}", None, evil=HOSTILE)["img"]["src"] == HOSTILE
    pending = shown("{% picture picture alt=evil class=evil %}", a_row(state=State.PENDING), evil=HOSTILE)
    assert pending.names() == ["svg", "rect", "image"]
    assert pending["svg"]["aria-label"] == HOSTILE
    nonce = shown("{% picture picture alt='' csp_nonce=evil class=evil %}", avatar(), evil=HOSTILE)
    assert nonce["style"] == {"nonce": HOSTILE}
    assert "script" not in nonce.names()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=60))
def test_any_text_comes_back_from_the_attribute(given_text):
    image = shown("{% picture picture alt=given %}", avatar(), given=given_text)["img"]
    assert image["alt"] == given_text


class OddStorage(FileSystemStorage):
    """Its addresses have what a srcset may not have, and a query as signed addresses have."""

    def url(self, name):
        return f'https://cdn.example/{name} a"b?X=1&Y=2,'


def test_addresses_of_any_storage_stay_whole(monkeypatch):
    row = avatar()
    monkeypatch.setattr(row.picture, "storage", OddStorage())
    image = shown('{% picture picture alt="" %}', row)["img"]
    assert image["src"] == 'https://cdn.example/p/profile.jpeg a"b?X=1&Y=2,'
    candidates = [part.split() for part in image["srcset"].split(", ")]
    assert [width for _, width in candidates] == ["128w", "512w"]
    assert candidates[1][0] == 'https://cdn.example/p/profile.jpeg%20a"b?X=1&Y=2%2C'


def test_while_it_is_made_a_box_of_its_size_stands_there_and_the_source_is_not_named():
    row = a_row(Profile, state=State.PENDING, width=400, height=300)
    page = shown('{% picture picture alt="Ada" class="round" width=64 %}', row)
    assert page.names() == ["svg", "rect", "image"]
    box = page["svg"]
    assert (box["width"], box["height"], box["viewbox"]) == ("64", "64", "0 0 64 64")
    assert (box["class"], box["aria-label"], box["data-state"]) == ("round", "Ada", "pending")
    assert page["rect"]["fill"] == "#aabbcc"
    assert page["image"]["href"].startswith("data:image/png;base64,")
    assert "source" not in text('{% picture picture alt="" %}', row)
    assert text('{% image_url picture "profile" %}{% srcset picture %}', row) == ""
    assert "style" not in box


@pytest.mark.parametrize(
    ("model", "only", "size"),
    [
        (Profile, "", (512, 512)),
        (Profile, "original", (400, 300)),
        (Photo, "", (400, 300)),
        (Photo, "thumbnail", (150, 112)),
    ],
)
def test_the_box_is_as_large_as_the_preset_will_make_the_picture(model, only, size):
    row = a_row(model, state=State.PENDING, width=400, height=300)
    box = shown(f'{{% picture picture alt="" only="{only}" %}}', row)["svg"]
    assert (int(box["width"]), int(box["height"])) == size
    assert box["aria-hidden"] == "true"


def test_a_picture_that_was_refused_is_the_default_or_a_box():
    row = a_row(Profile, state=State.FAILED, error="The picture is damaged.")
    assert shown('{% picture picture alt="" default="/none.png" %}', row)["img"]["src"] == "/none.png"
    assert shown('{% picture picture alt="" %}', row)["svg"]["data-state"] == "failed"


def test_no_picture_is_nothing_or_the_default():
    for row in (Profile(), None):
        assert text('{% picture picture alt="" %}{% srcset picture %}{% placeholder picture %}', row) == ""
        assert text('{% image_url picture "profile" %}', row) == ""
        image = shown('{% picture picture alt="" default="/none.png" width=64 class="round" %}', row)["img"]
        assert (image["src"], image["width"], image["class"]) == ("/none.png", "64", "round")


def test_a_row_that_another_field_wrote_shows_its_file():
    row = Profile(picture="old/me.jpg")
    page = shown('{% picture picture alt="Me" class="round" %}', row)
    assert page.names() == ["img"]
    assert page["img"] == {
        "loading": "lazy",
        "decoding": "async",
        "alt": "Me",
        "class": "round",
        "src": "/media/old/me.jpg",
    }
    assert text('{% image_url picture "thumbnail" %}', row) == "/media/old/me.jpg"
    assert text("{% srcset picture %}{% placeholder picture %}", row) == ""


def test_the_other_tags_give_what_hand_written_html_needs():
    row = avatar()
    assert text('{% image_url picture "thumbnail" %}', row) == "/media/p/thumbnail.jpeg"
    assert text("{% srcset picture %}", row) == "/media/p/thumbnail.jpeg 128w, /media/p/profile.jpeg 512w"
    assert text('{% srcset picture only="original" %}', row) == "/media/p/original.jpeg 4000w"
    assert text("{% placeholder picture %}", row) == row.picture.placeholder == placeholder_url(THUMBHASH)
    assert text('{% picture picture alt="" as html %}{{ html|length }}', row) != "0"


@pytest.mark.parametrize(
    "context",
    [
        {"csp_nonce": "abc"},
        {"request": SimpleNamespace(csp_nonce="abc")},
        {"request": SimpleNamespace(csp_nonce="abc"), "csp_nonce": None},
    ],
    ids=["Django", "django-csp", "both"],
)
def test_where_a_policy_gives_nonces_the_placeholder_is_a_style_element(context):
    page = shown('{% picture picture alt="" class="round" %}', avatar(), **context)
    assert page.names() == ["style", "picture", "img"]
    assert page["style"] == {"nonce": "abc"}
    assert "style" not in page["img"]
    own, given = page["img"]["class"].split()
    assert given == "round"
    assert re.fullmatch(
        rf"\.{own}\{{background:#aabbcc url\(data:image/png;base64,\S+\) [^{{}}<>]+\}}", page.text
    )


class Unread:
    """As Django's and django-csp's nonces are: false until they are written somewhere."""

    def __bool__(self):
        return False

    def __str__(self):
        return "late"


def test_a_nonce_that_nobody_has_read_yet_is_one():
    assert shown('{% picture picture alt="" %}', avatar(), csp_nonce=Unread())["style"] == {"nonce": "late"}


def test_placeholders_can_be_less_or_none_by_the_tag_and_by_setting(settings):
    color = {"style": "background:#aabbcc"}
    assert shown('{% picture picture alt="" placeholder="color" %}', avatar())["img"].items() >= color.items()
    assert "style" not in shown('{% picture picture alt="" placeholder="none" %}', avatar())["img"]
    settings.IMAGE_PROCESSOR = {"PLACEHOLDERS": "none"}
    assert "style" not in shown('{% picture picture alt="" %}', avatar())["img"]
    assert shown('{% picture picture alt="" %}', a_row(state=State.PENDING)).names() == ["svg"]
    assert "data:" in shown('{% picture picture alt="" placeholder="image" %}', avatar())["img"]["style"]


def test_the_style_of_the_template_is_kept():
    style = shown('{% picture picture alt="" placeholder="color" style="border:0" %}', avatar())["img"][
        "style"
    ]
    assert style == "background:#aabbcc;border:0"


def test_a_picture_with_holes_has_no_background_unless_its_variants_are_jpeg():
    hash_of_a_hole = next(filter(has_alpha, [ALPHA_HASH]))
    seen_through = a_row(Photo, stored("medium", 400, 300, "webp"), thumbhash=hash_of_a_hole)
    filled = a_row(Photo, stored("medium", 400, 300, "jpeg"), thumbhash=hash_of_a_hole)
    assert "style" not in shown('{% picture picture alt="" %}', seen_through)["img"]
    assert "style" in shown('{% picture picture alt="" %}', filled)["img"]


ALPHA_HASH = base64.b64encode(bytes([0x25, 0xA8, 0x91, 0x12, 0x85, 0xF7, *range(30)])).decode()


@pytest.mark.slow
@pytest.mark.parametrize("make", [sample_images.photo, sample_images.png_with_alpha, sample_images.grey_jpeg])
def test_the_placeholder_is_a_png_that_looks_like_the_picture(make):
    from image_processor import ImageProcessor  # noqa: PLC0415 - only here is anything decoded

    data = make()
    with ImageProcessor() as processor:
        facts = processor.inspect(data, thumbhash=True)
    png = Image.open(io.BytesIO(base64.b64decode(placeholder_url(facts.thumbhash).partition(",")[2])))
    png.load()
    original = Image.open(io.BytesIO(data)).convert("RGBA")
    assert max(png.size) == 12
    assert (png.mode == "RGBA") == (original.getextrema()[3][0] < 255)
    means = ImageStat.Stat(on_gray(png)).mean, ImageStat.Stat(on_gray(original)).mean
    assert all(abs(one - other) < 12 for one, other in zip(*means, strict=True)), means


def on_gray(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


@pytest.mark.parametrize("wrong", ["", "!!", "AAAA", "1QcSHQRnh493V4dI", "\N{SNOWMAN}" * 8, "A" * 12])
def test_what_is_no_thumbhash_is_no_placeholder(wrong):
    assert placeholder_url(wrong) is None
    assert not has_alpha("!!" + wrong)


@given(st.binary(max_size=48))
def test_any_bytes_are_a_small_placeholder_or_none(data):
    url = placeholder_url(base64.b64encode(data).decode())
    assert url is None or len(url) < 1000


ASKING = {name for name in dir(Storage) if not name.startswith("_")} - {"url"}
"""All that a storage can be asked but addresses."""


class CountingStorage(FileSystemStorage):
    """Notes all that is asked of it but addresses."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __getattribute__(self, name):
        if name in ASKING:
            self.asked.append(name)
        return super().__getattribute__(name)


LIST = """{% for row in rows %}{% picture row.picture alt=row.name width=64 %}
{% image_url row.picture "thumbnail" %}{% srcset row.picture %}{% placeholder row.picture %}
{{ row.picture.width }}{{ row.picture.state }}{% endfor %}"""


@pytest.mark.django_db
def test_a_page_of_a_hundred_profiles_is_one_query_and_asks_no_storage(django_user_model, monkeypatch):
    django_user_model.objects.bulk_create(
        django_user_model(username=f"user{number}") for number in range(100)
    )
    details = avatar().picture_details
    Profile.objects.bulk_create(
        Profile(user=user, picture="p/original.jpeg", picture_details=details)
        for user in django_user_model.objects.all()
    )
    storage = CountingStorage()
    monkeypatch.setattr(Profile._meta.get_field("picture"), "storage", storage)
    with CaptureQueriesContext(connection) as queries:
        page = shown(LIST, rows=Profile.objects.all())
    assert page.names().count("img") == 100
    assert len(queries) == 1
    assert storage.asked == []
