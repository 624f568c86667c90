"""Profiles in the admin."""

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from users.models import Profile


@admin.register(Profile)
class ProfileAdmin(admin.ModelAdmin):
    """A list with thumbnails: one query, and the storage is not asked."""

    list_display = ("thumbnail", "user")
    list_display_links = list_display
    list_select_related = ("user",)
    search_fields = ("user__username",)
    autocomplete_fields = ("user",)

    @admin.display(description="picture")
    def thumbnail(self, profile: Profile) -> SafeString | str:
        """64 pixels, or nothing."""
        image = profile.picture.variants.get("thumbnail")
        return format_html('<img src="{}" width="64" height="64" alt="">', image.url) if image else "-"
