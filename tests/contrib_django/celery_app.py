"""The project's Celery, as its worker loads it: `celery -A contrib_django.celery_app worker`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "contrib_django.settings")
app = Celery("gallery", broker=os.environ.get("GALLERY_BROKER"), set_as_current=True)
app.conf.imports = ("image_processor.contrib.django.celery_tasks",)
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False
