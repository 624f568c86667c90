"""What routes ask for: the wired application behind the request."""

from typing import Annotated

from fastapi import Depends, Path, Request

from image_processor.api.schemas import EXAMPLE_ID
from image_processor.bootstrap import App
from image_processor.service import ImageService


# Coroutines, though they wait for nothing: FastAPI calls anything else in a thread, for each request.
async def wired_app(request: Request) -> App:
    """The application that this server was started with."""
    return _app(request)


async def image_service(request: Request) -> ImageService:
    """What every front calls."""
    return _app(request).service


def _app(request: Request) -> App:
    app: App = request.app.state.app
    return app


Id = Annotated[str, Path(examples=[EXAMPLE_ID])]
"""As its answer gave it; any other is one that does not exist."""
Wired = Annotated[App, Depends(wired_app)]
Service = Annotated[ImageService, Depends(image_service)]
