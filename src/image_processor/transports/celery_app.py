"""What `celery -A image_processor.transports.celery_app worker` loads; the settings are the environment's."""

from image_processor.settings import load_settings
from image_processor.transports.celery_queue import PATIENT, new_celery

app = celery = new_celery(load_settings(queue_backend="celery"), patience=PATIENT)
