"""Pages with pictures, as a project's templates have them; `?strict` answers with a strict policy."""

from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path

from contrib_django.gallery.models import Photo, Profile
from contrib_django.urls import urlpatterns as shared

NONCE = "bm9uY2U"
STRICT = f"default-src 'none'; img-src 'self' data:; style-src 'nonce-{NONCE}'"
PAGE = """{% load image_processor %}<!doctype html><html lang="en"><title>Gallery</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><body>"""
PHOTO = Template(
    PAGE
    + """{% picture photo.picture alt=photo.title sizes="(max-width: 600px) 100vw, 600px" id="photo" %}
    <p id="below">Below</p></body></html>"""
)
PROFILES = Template(
    PAGE
    + """<ul>{% for profile in profiles %}<li>{% picture profile.picture alt=profile.name width=64 %}
    {{ profile.name }}</li>{% endfor %}</ul></body></html>"""
)


def photo(request, pk):
    found = Photo.objects.get(pk=pk)
    given = {"csp_nonce": NONCE} if "strict" in request.GET else {}
    response = HttpResponse(PHOTO.render(Context({"photo": found, "request": request, **given})))
    if given:
        response["Content-Security-Policy"] = STRICT
    return response


def profiles(request):
    return HttpResponse(PROFILES.render(Context({"profiles": Profile.objects.all(), "request": request})))


urlpatterns = [*shared, path("photos/<int:pk>/", photo), path("profiles/", profiles)]
