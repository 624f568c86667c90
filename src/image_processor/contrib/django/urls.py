"""Where the service tells that variants are ready: `path("images/", include(this))`."""

from django.urls import path

from image_processor.contrib.django.views import webhook

app_name = "image_processor"
urlpatterns = [path("webhook/", webhook, name="webhook")]
