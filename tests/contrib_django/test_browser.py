"""What a person sees: the admin and a page of the gallery in Chromium, with real uploads."""

import os
import re
import shutil

import pytest

from contrib_django.gallery.models import Photo, Profile
from image_processor.contrib.django.details import State

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 30_000
IS_LOADED = "image => image.complete && image.naturalWidth > 0"
ROW = ".field-picture"


@pytest.fixture(scope="module")
def chromium():
    """A browser; on a machine of a developer without one the tests are skipped, in CI they fail."""
    if CHROMIUM is None:
        absent = "There is no Chromium here: apt-get install chromium."
        pytest.fail(absent) if os.environ.get("CI") else pytest.skip(absent)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only with a browser

    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        # Playwright keeps a loop in this thread, in which Django would forbid the tests their database.
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def served(settings):
    settings.ROOT_URLCONF = "contrib_django.gallery.pages"


@pytest.fixture(scope="session")
def server(django_db_setup, live_server):
    """Once the database is a file: for one in memory its threads would share one connection, and crash."""
    assert not live_server.thread.connections_override
    return live_server


@pytest.fixture
def open_page(chromium, server):
    """`open_page(address, **context)`: a page in a window of its own."""
    contexts = []

    def opened(address: str, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(server.url + address)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def admin(open_page, admin_user):
    """`admin(address)`: a page of the admin, signed in."""

    def opened(address: str, **options):
        page = open_page(f"/admin/login/?next={address}", **options)
        page.fill("#id_username", admin_user.username)
        page.fill("#id_password", "password")
        page.click("[type=submit]")
        return page

    return opened


@pytest.fixture
def real_photo(request, photo_bytes) -> bytes:
    """One that a telephone took, where the folder of photos is; a drawn one elsewhere."""
    folder = request.getfixturevalue("photos")
    return (folder / "camera" / "Apple_iPhone_6.jpg").read_bytes()


def as_file(data: bytes, name: str = "Ferien.jpg") -> dict:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def shown(page):
    """The preview, once it is loaded."""
    image = page.wait_for_selector(f"{ROW} .image-input-preview img")
    page.wait_for_function(IS_LOADED, arg=image)
    return image


def test_a_picture_is_uploaded_replaced_and_removed_in_the_admin(
    admin, admin_user, real_photo, make_photo, files
):
    page = admin("/admin/gallery/profile/add/")
    page.select_option("#id_user", str(admin_user.pk))
    page.set_input_files("#id_picture", as_file(real_photo))
    page.click("[name=_continue]")
    first = shown(page).get_attribute("src")
    assert len(files()) == 3

    page.set_input_files("#id_picture", as_file(make_photo(400, 300)))
    page.click("[name=_continue]")
    page.wait_for_function(
        "([selector, old]) => document.querySelector(selector)?.src.includes(old) === false",
        arg=[f"{ROW} .image-input-preview img", first],
    )
    assert shown(page).get_attribute("src") != first
    assert len(files()) == 3
    assert "Ferien" not in page.content()

    page.check("#picture-clear_id")
    page.click("[name=_continue]")
    page.wait_for_selector(f"{ROW} .image-input:not(:has(.image-input-preview))")
    assert (files(), Profile.objects.get().picture.name or "") == ([], "")


def test_what_is_refused_is_said_in_the_visitors_language_and_the_old_picture_stays(
    admin, user, upload, files
):
    profile = Profile.objects.create(user=user, picture=upload())
    stored = files()
    page = admin(f"/admin/gallery/profile/{profile.pk}/change/", locale="de-DE")
    page.set_input_files("#id_picture", as_file(b"<svg onload=alert(1)></svg>", '"><b>x.jpg'))
    page.click("[name=_continue]")
    error = page.wait_for_selector(".errorlist")
    assert error.inner_text() == "Das ist kein Bild einer Art, die angenommen wird: JPEG, PNG, HEIC."
    assert shown(page).evaluate("image => image.width") == 128
    assert "Bild entfernen" in page.inner_text(ROW)
    assert files() == stored


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_input_can_be_read_in_light_and_dark(admin, user, upload, scheme):
    profile = Profile.objects.create(user=user, picture=upload())
    page = admin(f"/admin/gallery/profile/{profile.pk}/change/", color_scheme=scheme)
    shown(page)
    assert page.get_by_label("Remove the picture").is_visible()
    assert page.get_by_label("Picture", exact=False).first.is_visible()
    for part in (".image-input-hint", ".image-input-label", ".image-input-clear label"):
        assert contrast(page, f"{ROW} {part}") >= 4.5, part


@pytest.mark.parametrize(
    ("screen", "variant"),
    [((320, 1), "medium"), ((320, 3), "large"), ((1000, 1), "medium"), ((1000, 2), "large")],
)
def test_the_browser_chooses_by_width_and_density(open_page, make_photo, upload, screen, variant):
    photo = Photo.objects.create(title="A lake", picture=upload(make_photo(2400, 1600)))
    width, density = screen
    page = open_page(
        f"/photos/{photo.pk}/", viewport={"width": width, "height": 700}, device_scale_factor=density
    )
    image = page.wait_for_selector("#photo")
    page.wait_for_function(IS_LOADED, arg=image)
    assert re.search(r"_(\w+)\.webp$", image.evaluate("image => image.currentSrc"))[1] == variant


def test_the_place_is_kept_and_colored_while_the_picture_loads(open_page, make_photo, upload):
    photo = Photo.objects.create(title="A lake", picture=upload(make_photo(600, 400)))
    held = []

    def hold(route):
        held.append(route)

    for query in ("", "?strict"):
        page = open_page("/profiles/")
        said = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.route("**/media/**", hold)
        page.goto(page.url.replace("/profiles/", f"/photos/{photo.pk}/{query}"), wait_until="commit")
        image = page.wait_for_selector("#photo", state="attached")
        box = image.bounding_box()
        assert (box["width"], box["height"]) == (600, 400)
        style = image.evaluate("image => getComputedStyle(image).background")
        assert "rgb(100, 30, 20)" in style
        assert "data:image/png" in style
        assert said == []
        while held:
            held.pop().abort()


def test_a_picture_that_is_being_made_has_its_box(open_page, user, upload):
    profile = Profile.objects.create(user=user, name="Ada", picture=upload())
    made = {"state": State.PENDING, "variants": {}, "source": profile.picture.name}
    Profile.objects.update(picture_details=profile.picture_details.model_copy(update=made))
    page = open_page("/profiles/", viewport={"width": 500, "height": 400})
    box = page.wait_for_selector('svg[data-state="pending"]').bounding_box()
    assert (box["width"], box["height"]) == (64, 64)
    assert page.query_selector("img") is None


LUMINANCE = """element => {
    const seen = node => {
        for (; node; node = node.parentElement) {
            const color = getComputedStyle(node).backgroundColor;
            if (!/, 0\\)$|transparent/.test(color)) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const luminance = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number).map(level => level / 255)
        .map(level => level <= 0.03928 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4)
        .reduce((sum, level, at) => sum + level * [0.2126, 0.7152, 0.0722][at], 0);
    return [luminance(getComputedStyle(element).color), luminance(seen(element))];
}"""


def contrast(page, selector: str) -> float:
    """As WCAG 2.2 defines it; 4.5 is what small text needs."""
    darker, lighter = sorted(page.wait_for_selector(selector).evaluate(LUMINANCE))
    return (lighter + 0.05) / (darker + 0.05)
