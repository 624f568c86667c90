"""What routes ask for: the wired application behind the request."""

from typing import Annotated

from fastapi import Depends, Request

from image_processor.bootstrap import App
from image_processor.service import ImageService


def wired_app(request: Request) -> App:
    """The application that this server was started with."""
    app: App = request.app.state.app
    return app


def image_service(request: Request) -> ImageService:
    """What every front calls."""
    return wired_app(request).service


Wired = Annotated[App, Depends(wired_app)]
Service = Annotated[ImageService, Depends(image_service)]
