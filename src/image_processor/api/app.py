"""The FastAPI application: its routes, its error answers, and what stands around them all."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from image_processor import __version__
from image_processor.api.audit import Audited, AuditTrail
from image_processor.api.auth import Authenticator
from image_processor.api.deprecation import DEPRECATIONS, add_deprecations
from image_processor.api.edge import HangUp, SafeHeaders
from image_processor.api.errors import add_error_answers
from image_processor.api.events import JobWatcher
from image_processor.api.openapi import DescribedApi
from image_processor.api.routes import (
    batch,
    deliveries,
    events,
    files,
    health,
    images,
    jobs,
    listing,
    thumbnails,
    uploads,
)
from image_processor.bootstrap import App, open_verifier
from image_processor.jobs.owners import OwnerRepository

DESCRIPTION = """
Upload a picture, get a job id back at once, and soon after hold its variants.

1. `POST /api/v1/images/upload` answers 202 with a `job_id` and an `image_id`.
2. `GET /api/v1/images/jobs/{job_id}/result` answers 409 until the job has completed, then with the variants.
3. `GET /api/v1/images/{image_id}?size=medium` and the `/storage/...` addresses serve them.

Every error has the body `{"error": {"code", "message", "details"}}`.
"""


def create_app(app: App) -> FastAPI:
    """The HTTP front of a wired application."""
    settings = app.settings
    api = DescribedApi(
        title="Image Processor",
        version=settings.version or __version__,
        description=DESCRIPTION,
        redoc_url=None,
    )
    api.state.app = app
    api.state.authenticator = Authenticator(open_verifier(settings), required=settings.auth_required)
    api.state.watcher = JobWatcher(app.progress.states)
    api.state.storage_look = health.SharedLook(app)
    api.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_credentials=True,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        expose_headers=[
            *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"),
            *("Idempotent-Replayed", "Location", "Link", "X-Request-ID", "Deprecation", "Sunset"),
        ],
    )
    api.add_middleware(SafeHeaders)
    api.add_middleware(HangUp)
    api.add_middleware(Audited, trail=AuditTrail(OwnerRepository(app.database).owners))
    add_error_answers(api)
    rooms = (events, uploads, batch, listing, images, thumbnails, jobs, deliveries, health, files)
    add_deprecations(api, [room.router for room in rooms], DEPRECATIONS)
    for room in rooms:
        api.include_router(room.router)
    api.state.routes = [route for room in rooms for route in room.router.routes]
    return api
