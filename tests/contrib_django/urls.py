"""The addresses of the test project; pictures are served from MEDIA_ROOT as it is at the moment."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.static import serve


def media(request, path):
    return serve(request, path, document_root=settings.MEDIA_ROOT)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("images/", include("image_processor.contrib.django.urls")),
    re_path(r"^media/(?P<path>.*)$", media),
]
