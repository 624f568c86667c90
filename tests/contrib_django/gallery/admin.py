"""The gallery in the admin, as a project registers it: nothing is said of pictures."""

from django.contrib import admin

from contrib_django.gallery.models import Article, Photo, Profile

admin.site.register([Article, Photo, Profile])
