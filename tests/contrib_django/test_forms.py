"""The form field and its input: what is accepted, what is said, what is kept; as forms and as HTML."""

import io

import pytest
from django import forms as django_forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminFileWidget
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.forms import modelform_factory
from django.utils.datastructures import MultiValueDict
from django.utils.translation import override

from contrib_django.gallery.models import Photo, Profile
from image_processor.contrib.django.details import State
from image_processor.contrib.django.forms import ImageField, accepted_types
from image_processor.contrib.django.widgets import ImageInput
from image_processor.pipeline import BUILTIN_PRESETS
from image_processor.testing import sample_images

MIB = 1024 * 1024
ProfileForm = modelform_factory(Profile, fields=["user", "name", "picture"])


def refused(field: ImageField, upload) -> tuple[str, str]:
    with pytest.raises(django_forms.ValidationError) as refusal:
        field.clean(upload)
    (error,) = refusal.value.error_list
    return error.code, error.messages[0]


@pytest.mark.parametrize("make", [sample_images.photo, sample_images.png_with_alpha, sample_images.heic])
def test_what_the_preset_takes_is_given_back_ready_to_be_read(upload, make):
    given = upload(make(), "weird name.exe")
    assert ImageField(preset="avatar").clean(given) is given
    assert given.tell() == 0
    assert given.read() == make()


TOO_LARGE = b"\xff\xd8\xff\xe0" + bytes(5 * MIB)


@pytest.mark.parametrize(
    ("data", "code", "sentence"),
    [
        (
            b"<svg onload=alert(1)>",
            "unsupported_format",
            "is no picture of a kind that is accepted: JPEG, PNG, HEIC.",
        ),
        (b"MZ\x90\x00" * 40, "unsupported_format", "accepted: JPEG, PNG, HEIC."),
        (sample_images.webp(), "unsupported_format", "accepted: JPEG, PNG, HEIC."),
        (sample_images.photo()[:20], "corrupt_image", "damaged or incomplete."),
        (TOO_LARGE, "file_too_large", "larger than 5 MB."),
        (sample_images.png_header_only(), "image_too_large", "too many pixels."),
        (b"", "empty", "The submitted file is empty."),
    ],
    ids=["svg", "program", "webp", "cut", "bytes", "bomb", "empty"],
)
def test_what_it_does_not_take_is_refused_with_a_sentence(upload, data, code, sentence):
    given = upload(data, "me.jpg")
    found, message = refused(ImageField(preset="avatar"), given)
    assert found == code
    assert sentence in message
    assert given.tell() == 0


class Endless(io.RawIOBase):
    """Says that it is small and does not end; counts what is read of it."""

    name, size, given = "me.jpg", 10, 0

    def seek(self, at, whence=0):
        return at

    def read(self, size=-1):
        assert 0 <= size <= 6 * MIB
        self.given += size
        return bytes(size)


def test_no_more_is_read_than_is_allowed():
    endless = Endless()
    assert refused(ImageField(preset="avatar"), endless)[0] == "file_too_large"
    assert endless.given == 5 * MIB + 1
    honest = Endless()
    honest.size = 6 * MIB
    assert refused(ImageField(preset="avatar"), honest)[0] == "file_too_large"
    assert honest.given == 0


def test_a_file_on_disk_is_taken_too(photo_bytes):
    with TemporaryUploadedFile("me.jpg", "image/jpeg", len(photo_bytes), None) as given:
        given.write(photo_bytes)
        assert ImageField().clean(given).read() == photo_bytes


def test_the_limit_is_the_fields_or_the_projects(upload, settings, photo_bytes):
    settings.IMAGE_PROCESSOR = {"MAX_BYTES": len(photo_bytes) - 1}
    assert refused(ImageField(preset="avatar"), upload())[0] == "file_too_large"
    assert ImageField(preset=BUILTIN_PRESETS["avatar"]).clean(upload())
    assert ProfileForm.base_fields["picture"].preset.limits.max_bytes == 5 * MIB


def test_the_length_of_a_name_that_is_not_kept_does_not_matter(upload):
    given = upload(name="x" * 250 + ".jpg")
    assert ImageField(max_length=20).clean(given) is given


def test_a_project_may_have_its_own_sentences_and_its_own_language(upload):
    own = ImageField(error_messages={"unsupported_format": "Only %(formats)s, please."})
    assert refused(own, upload(b"GIF89a" + bytes(50)))[1] == "Only JPEG, PNG, HEIC, please."
    with override("de"):
        assert refused(ImageField(), upload(TOO_LARGE))[1] == "Die Datei ist größer als 5 MB."


def test_a_field_may_be_required_and_a_picture_that_is_there_is_enough(upload):
    assert refused(ImageField(), None)[0] == "required"
    assert ImageField(required=False).clean(None) is None
    assert ImageField().clean(None, "present") == "present"
    assert ImageField(required=False).clean(False, "present") is False
    assert not ImageField().has_changed("present", None)
    assert ImageField().has_changed("present", upload())


def test_browsers_are_told_what_is_accepted():
    html = str(ProfileForm()["picture"])
    assert 'accept="image/jpeg,image/png,image/heic,.heic,.heif"' in html
    assert accepted_types(BUILTIN_PRESETS["web"]) == "image/jpeg,image/png,image/webp"
    assert 'accept="image/png"' in str(
        modelform_factory(
            Profile, fields=["picture"], widgets={"picture": ImageInput(attrs={"accept": "image/png"})}
        )()["picture"]
    )


@pytest.fixture
def profile(user, upload):
    return Profile.objects.create(user=user, name="Ada", picture=upload(name="secret-name.jpg"))


@pytest.fixture
def send(profile):
    """`send(upload, **data)`: the form of the profile, as a browser sends it."""

    def sent(upload=None, **data) -> django_forms.ModelForm:
        given = MultiValueDict({"picture": [upload]}) if upload else MultiValueDict()
        return ProfileForm(
            {"user": profile.user_id, "name": "Ada", **data}, given, instance=Profile.objects.get()
        )

    return sent


@pytest.mark.django_db(transaction=True)
def test_without_a_file_the_old_picture_stays(send, profile, files):
    stored = files()
    form = send(name="Ada L.")
    assert form.is_valid()
    assert form.changed_data == ["name"]
    assert form.save().picture == profile.picture
    assert files() == stored


@pytest.mark.django_db(transaction=True)
def test_a_picture_is_replaced_and_the_old_files_go(send, profile, upload, make_photo, files):
    stored = files()
    form = send(upload(make_photo(200, 200)))
    assert form.is_valid()
    assert form.save().picture.width == 200
    assert len(files()) == len(stored)
    assert not set(files()) & set(stored)


@pytest.mark.django_db(transaction=True)
def test_the_box_removes_the_picture(send, files):
    form = send(**{"picture-clear": "on"})
    assert form.is_valid()
    form.save()
    assert not Profile.objects.get().picture
    assert Profile.objects.get().picture_details is None
    assert files() == []


@pytest.mark.django_db(transaction=True)
def test_a_refused_file_leaves_all_as_it_was_and_the_preview_too(send, profile, upload, files):
    stored = files()
    form = send(upload(b"nothing"))
    assert list(form.errors) == ["picture"]
    assert f'src="{profile.picture.variants["original"].url}"' in str(form["picture"])
    both = send(upload(), **{"picture-clear": "on"})
    assert both.errors.as_data()["picture"][0].code == "contradiction"
    assert 'id="picture-clear_id" checked' in str(both["picture"])
    assert files() == stored


@pytest.mark.django_db
def test_several_forms_on_a_page_keep_apart(user, upload):
    forms = [
        ProfileForm(
            {"a-user": user.pk, "b-user": user.pk},
            MultiValueDict({"b-picture": [upload()], "a-picture": [upload(b"x")]}),
            prefix=prefix,
        )
        for prefix in "ab"
    ]
    assert [form.is_valid() for form in forms] == [False, True]
    assert 'id="id_b-picture_hint"' in str(forms[1]["picture"])


@pytest.mark.django_db
def test_the_input_shows_the_picture_and_not_the_name_of_the_file(profile, django_assert_num_queries):
    form = ProfileForm(instance=Profile.objects.get())
    with django_assert_num_queries(0):
        html = str(form["picture"])
    assert 'width="128" height="96"' in html
    assert 'alt="Present picture"' in html
    assert '<label for="picture-clear_id">Remove the picture</label>' in html
    assert 'aria-describedby="id_picture_hint"' in html
    assert "JPEG, PNG, HEIC; up to 5 MB." in html
    assert "secret-name" not in html
    assert "style=" not in html
    assert "<script" not in html
    with override("de"):
        assert "Bild entfernen" in str(form["picture"])
        assert "JPEG, PNG, HEIC; bis 5 MB." in str(form["picture"])


@pytest.mark.django_db
def test_a_required_picture_has_no_box_to_remove_it(upload):
    photo = Photo.objects.create(picture=upload())
    html = str(modelform_factory(Photo, fields=["picture"])(instance=photo)["picture"])
    assert "<img" in html
    assert "checkbox" not in html


@pytest.mark.django_db
def test_a_source_is_not_shown_while_its_variants_are_made_or_were_refused(profile):
    source = profile.picture.name
    made = {"variants": {}, "source": source}
    for state, error, remark in (
        (State.PENDING, None, "This picture is being prepared."),
        (State.FAILED, "<b>Damaged</b>.", "&lt;b&gt;Damaged&lt;/b&gt;."),
    ):
        update = {**made, "state": state, "error": error}
        Profile.objects.update(picture_details=profile.picture_details.model_copy(update=update))
        html = str(ProfileForm(instance=Profile.objects.get())["picture"])
        assert f'data-state="{state}"' in html
        assert remark in html
        assert source not in html


@pytest.mark.django_db
def test_a_file_that_another_field_wrote_is_shown(profile):
    Profile.objects.update(picture="old/<me>.jpg", picture_details=None)
    html = str(ProfileForm(instance=Profile.objects.get())["picture"])
    assert 'src="/media/old/%3Cme%3E.jpg" width="128"' in html


def test_the_admin_uses_the_input_and_leaves_one_that_a_project_chose(rf):
    field = Profile._meta.get_field("picture")
    by_default = admin.site._registry[Profile].formfield_for_dbfield(field, rf.get("/"))
    assert type(by_default.widget) is ImageInput
    assert "image_processor/image_input.css" in str(by_default.widget.media)

    class Own(AdminFileWidget):
        pass

    assert type(field.formfield(widget=Own).widget) is Own
    assert type(field.formfield(widget=django_forms.FileInput).widget) is django_forms.FileInput
