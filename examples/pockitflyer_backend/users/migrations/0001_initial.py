"""The profiles."""

import django.db.models.deletion
import image_processor.contrib.django.details
import image_processor.contrib.django.fields
from django.conf import settings
from django.db import migrations, models

import users.models


class Migration(migrations.Migration):
    """One table."""

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Profile",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "picture",
                    image_processor.contrib.django.fields.ImageField(
                        blank=True, details="picture_details", upload_to=users.models.picture_folder
                    ),
                ),
                (
                    "picture_details",
                    image_processor.contrib.django.details.ImageDetailsField(
                        blank=True, editable=False, null=True
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="profile",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
    ]
