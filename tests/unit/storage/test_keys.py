"""The grammar of keys, the segments made of strangers' words, and the templates."""

import datetime as dt
import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import ConfigurationError, InvalidKeyError, InvalidRequestError
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    ImageFormat,
    JpegOutput,
    PngOutput,
    Resize,
    SourceOutput,
    Variant,
    WebpOutput,
)
from image_processor.storage.keys import (
    FIELD_NAMES,
    KeyFields,
    KeyTemplate,
    check_bucket,
    check_distinct,
    check_key,
    check_prefix,
    check_segment,
    identity_segment,
    name_segment,
    variant_fields,
)
from image_processor.testing.storage_contract import NO_KEYS

STRANGE = st.text(max_size=120) | st.text(alphabet="./\\-_a1~%\0 \n\u2024é", max_size=40)
SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a/b",
        "images/4f1c-9a/small.jpeg",
        "bucket/processed/thumbnail/0b6e_thumbnail.webp",
        "2026-07-31/A_b-c.D.png",
        "a" * 255,
        "/".join(["a" * 255] * 4),
        "/".join("a" * 32),
    ],
)
def test_a_key_of_the_grammar_is_given_back(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_is_outside_the_grammar_is_refused(key):
    with pytest.raises(InvalidKeyError):
        check_key(key)


def test_a_refusal_does_not_repeat_a_long_key():
    with pytest.raises(InvalidKeyError) as refused:
        check_key("ä" * 500)
    assert len(str(refused.value)) < 400


@given(STRANGE)
def test_whatever_passes_the_check_stays_inside(text):
    try:
        key = check_key(text)
    except InvalidKeyError:
        return
    assert_inside(key)


@given(st.from_regex(SEGMENT, fullmatch=True).filter(lambda segment: ".." not in segment))
def test_every_segment_of_the_grammar_passes(segment):
    assert check_key(f"a/{segment}") == f"a/{segment}"


@pytest.mark.parametrize("prefix", ["", "a/", "a/b.c/"])
def test_a_prefix_is_empty_or_ends_with_a_slash(prefix):
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["a", "/", "//", "a//", "../", "a/../", "/a/", ".a/"])
def test_other_prefixes_are_refused(prefix):
    with pytest.raises(InvalidKeyError):
        check_prefix(prefix)


@pytest.mark.parametrize("segment", ["", "a/b", "..", ".a"])
def test_one_segment_is_one_segment(segment):
    with pytest.raises(InvalidKeyError):
        check_segment(segment)


@pytest.mark.parametrize("name", ["ab", "images", "my-bucket_1.x", "0" * 63])
def test_bucket_names(name):
    assert check_bucket(name) == name


@pytest.mark.parametrize(
    "name", ["", "a", "A1", "ab/c", "../ab", "a..b", "-ab", ".ab", "ab\n", "ab ", "á1", "a" * 64, "ab\0"]
)
def test_other_bucket_names_are_refused_with_the_grammar(name):
    with pytest.raises(InvalidRequestError, match="2 to 63 lower-case letters, digits") as refused:
        check_bucket(name)
    assert refused.value.details == {"parameter": "bucket"}


class TestIdentitySegment:
    @pytest.mark.parametrize(
        "identity", ["42", "development", "0b6e4c1a-77de-4c7f-9a3e-1f2d3c4b5a69", "a.b", "B_"]
    )
    def test_a_safe_id_stays_as_it_is(self, identity):
        assert identity_segment(identity) == identity

    @pytest.mark.parametrize(
        ("identity", "pattern"),
        [
            ("auth0|5f7c", r"auth0-5f7c--[0-9a-f]{16}"),
            ("anna@example.org", r"anna-example-org--[0-9a-f]{16}"),
            ("../../etc/passwd", r"etc-passwd--[0-9a-f]{16}"),
            ("", r"x--[0-9a-f]{16}"),
            ("写真", r"x--[0-9a-f]{16}"),
            ("a.", r"a--[0-9a-f]{16}"),
            ("a..b", r"a-b--[0-9a-f]{16}"),
            ("u" * 65, r"u{46}--[0-9a-f]{16}"),
        ],
    )
    def test_an_unsafe_id_is_changed_and_marked(self, identity, pattern):
        assert re.fullmatch(pattern, identity_segment(identity))

    def test_nobody_can_pose_as_somebody_whose_id_was_changed(self):
        changed = identity_segment("anna@example.org")
        assert identity_segment(changed) != changed

    @given(STRANGE, STRANGE)
    def test_two_ids_never_share_a_segment(self, one, other):
        assert (identity_segment(one) == identity_segment(other)) == (one == other)

    @given(STRANGE | st.characters(categories=["Cs"]))
    def test_is_always_a_short_safe_segment(self, identity):
        segment = identity_segment(identity)
        assert check_segment(segment) == segment
        assert len(segment) <= 64
        assert not segment.endswith(".")


class TestNameSegment:
    @pytest.mark.parametrize(
        ("name", "segment"),
        [
            ("holiday.jpg", "holiday"),
            ("Žluťoučký kůň.jpeg", "Zlutoucky-kun"),
            ("C:\\photos\\My cat (1).png", "My-cat-1"),
            ("../../etc/passwd", "passwd"),
            ("shell.php.jpg", "shell-php"),
            (".htaccess", "htaccess"),
            ("写真.jpg", "unnamed"),
            ("", "unnamed"),
            ("..", "unnamed"),
            ("-rf", "rf"),
            ("a" * 5000 + ".jpg", "a" * 64),
        ],
    )
    def test_keeps_what_is_readable(self, name, segment):
        assert name_segment(name) == segment

    @given(STRANGE | st.characters(categories=["Cs"]))
    def test_is_always_a_short_safe_segment_without_dots(self, name):
        segment = name_segment(name)
        assert check_segment(segment) == segment
        assert len(segment) <= 64
        assert "." not in segment


KNOWN = KeyFields(
    hash="ab" * 32,
    date=dt.date(2026, 7, 31),
    original_name="My cat.jpg",
    ext="jpg",
    image_id="4f1c",
    variant="small-webp",
    user_id="42",
    session_id="s1",
    bucket="pictures",
    size="small",
    format="jpeg",
    upload_id="9a3e",
)


class TestKeyTemplate:
    @pytest.mark.parametrize(
        ("template", "key"),
        [
            (
                "{bucket}/processed/{variant}/{image_id}_{variant}.{ext}",
                "pictures/processed/small-webp/4f1c_small-webp.jpg",
            ),
            ("images/{upload_id}/{size}.{format}", "images/9a3e/small.jpeg"),
            ("processed/{date}/{hash}.{ext}", f"processed/2026-07-31/{'ab' * 32}.jpg"),
            (
                "profile_pictures/{user_id}/{image_id}_{variant}.{ext}",
                "profile_pictures/42/4f1c_small-webp.jpg",
            ),
            ("{session_id}/viz_{original_name}.{ext}", "s1/viz_My-cat.jpg"),
        ],
    )
    def test_renders_the_keys_of_the_seeds(self, template, key):
        assert KeyTemplate(template).render(KNOWN) == key

    @pytest.mark.parametrize(
        "template",
        [
            "",
            "/{hash}",
            "{hash}/",
            "a//{hash}",
            "../{hash}",
            "{bucket}/../{hash}",
            ".{hash}",
            "a/.{hash}",
            "a b/{hash}",
            "{hash}..{ext}",
            "ä/{hash}",
            "{hash}\n",
            "{original_name}_{user_id}_{session_id}_{hash}",
        ],
    )
    def test_text_outside_the_grammar_is_refused_at_definition(self, template):
        with pytest.raises(ConfigurationError, match="makes no key"):
            KeyTemplate(template)

    @pytest.mark.parametrize(
        "template",
        [
            "{}",
            "{0}",
            "{secret}",
            "{Hash}",
            "{hash",
            "hash}",
            "{{hash}}",
            "{hash.__class__}",
            "{hash[0]}",
            "{hash!r}",
            "{hash:>10}",
            "{ hash }",
            "{__class__}",
            "{segment}",
        ],
    )
    def test_unknown_and_malformed_fields_are_refused_at_definition(self, template):
        with pytest.raises(ConfigurationError, match=r"unknown or malformed field.*\{image_id\}"):
            KeyTemplate(f"a/{template}")

    def test_a_field_that_is_not_known_is_named(self):
        with pytest.raises(InvalidRequestError, match=r"\{user_id\}"):
            KeyTemplate("{user_id}/{image_id}").render(KeyFields(image_id="4f1c"))

    @pytest.mark.parametrize("value", ["", "a/b", "..", ".a", "a b", "a\0", "a" * 256])
    def test_our_own_values_must_be_segments(self, value):
        with pytest.raises(InvalidKeyError):
            KeyTemplate("a{image_id}").render(KeyFields(image_id=value))

    @given(
        st.lists(st.sampled_from(sorted(FIELD_NAMES)), min_size=1, max_size=5),
        st.sampled_from(["/", "-", "_", ".", ""]),
        st.data(),
    )
    def test_no_rendered_key_escapes(self, names, separator, data):
        try:
            template = KeyTemplate(f"root/{separator.join(f'{{{name}}}' for name in names)}")
        except ConfigurationError:
            return
        values = {name: data.draw(STRANGE) for name in names if name != "date"}
        try:
            key = template.render(KeyFields(**values, date=dt.date(2026, 7, 31)))
        except InvalidKeyError:
            return
        assert_inside(key)
        assert key.startswith("root/")
        if separator != "/":
            assert key.count("/") == 1

    @given(STRANGE, STRANGE, STRANGE)
    def test_strangers_words_never_fail_a_template(self, user, session, name):
        fields = KeyFields(user_id=user, session_id=session, original_name=name, ext="jpg")
        key = KeyTemplate("{user_id}/{session_id}/{original_name}.{ext}").render(fields)
        assert key.count("/") == 2
        assert_inside(key)


def variant(name, output=None, **fields):
    return Variant(name=name, output=output or WebpOutput(), **fields)


class TestDistinctVariants:
    @pytest.mark.parametrize("name", sorted(BUILTIN_PRESETS))
    def test_the_presets_that_ship_are_distinct(self, name):
        preset = BUILTIN_PRESETS[name]
        check_distinct(KeyTemplate(preset.key_template), preset.pipeline.variants, preset.accepts)

    @pytest.mark.parametrize(
        "template", ["a/{image_id}.{ext}", "a/{image_id}.{format}", "{hash}.{ext}", "{bucket}/{size}"]
    )
    def test_variants_that_would_overwrite_each_other_are_refused(self, template):
        variants = (
            variant("small", operations=(Resize(width=10),), key_name="one"),
            variant("large", operations=(Resize(width=20),), key_name="one"),
        )
        with pytest.raises(ConfigurationError, match="'small' and 'large' of a JPEG image the same key"):
            check_distinct(KeyTemplate(template), variants, [ImageFormat.JPEG])

    def test_size_alone_is_not_enough_for_two_formats(self):
        variants = (variant("a", JpegOutput(), key_name="s"), variant("b", PngOutput(), key_name="s"))
        check_distinct(KeyTemplate("{image_id}/{size}.{format}"), variants, [ImageFormat.JPEG])
        with pytest.raises(ConfigurationError):
            check_distinct(KeyTemplate("{image_id}/{size}"), variants, [ImageFormat.JPEG])

    def test_a_collision_for_one_accepted_format_is_found(self):
        variants = (
            variant("a", SourceOutput(), key_name="s"),
            variant("b", WebpOutput(quality=50), key_name="s"),
        )
        template = KeyTemplate("{image_id}/{size}.{format}")
        check_distinct(template, variants, [ImageFormat.JPEG, ImageFormat.PNG])
        with pytest.raises(ConfigurationError, match="of a WebP image"):
            check_distinct(template, variants, [ImageFormat.JPEG, ImageFormat.WEBP])

    def test_the_same_file_under_two_names_may_share_its_key(self):
        variants = (variant("a", SourceOutput(), key_name="s"), variant("b", WebpOutput(), key_name="s"))
        check_distinct(KeyTemplate("{image_id}/{size}.{format}"), variants, [ImageFormat.WEBP])

    def test_one_variant_needs_no_field_of_its_own(self):
        check_distinct(KeyTemplate("processed/{hash}"), [variant("only")], [ImageFormat.JPEG])

    def test_the_fields_of_a_variant_follow_what_is_written(self):
        fields = variant_fields(variant("a-b", SourceOutput(), key_name="a"), ImageFormat.JPEG, KNOWN)
        assert (fields.variant, fields.size, fields.format, fields.ext) == ("a-b", "a", "jpeg", "jpg")
        assert fields.image_id == KNOWN.image_id
        fields = variant_fields(variant("a"), ImageFormat.JPEG, KNOWN)
        assert (fields.variant, fields.size, fields.format, fields.ext) == ("a", "a", "webp", "webp")


def assert_inside(key):
    assert key.isascii()
    assert len(key) <= 1024
    assert not key.startswith("/")
    assert set(PurePosixPath(key).parts).isdisjoint({"..", ".", ""})
    assert all(SEGMENT.fullmatch(segment) for segment in key.split("/"))
