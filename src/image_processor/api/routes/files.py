"""`/storage/...`: the stored variants, public to whoever knows their address."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from image_processor.api.files import FILE_RESPONSES, file_answer
from image_processor.api.lanes import reading
from image_processor.api.openapi import error_responses
from image_processor.api.routes.dependencies import Wired
from image_processor.api.schemas import EXAMPLE_URL
from image_processor.errors import InvalidKeyError, NotFoundError
from image_processor.storage.keys import is_incoming

router = APIRouter(tags=["files"])

PUBLIC = "public, max-age=31536000, immutable"
"""A key is never written with another picture: it holds the random id of its image."""


@router.head("/storage/{key:path}", include_in_schema=False)
@router.get(
    "/storage/{key:path}",
    response_class=Response,
    responses=FILE_RESPONSES | error_responses(404, 416),
)
async def stored_file(
    request: Request, key: Annotated[str, Path(examples=[EXAMPLE_URL.removeprefix("/storage/")])], app: Wired
) -> Response:
    """The bytes of one stored variant."""
    if is_incoming(key):
        raise NotFoundError("There is no such file.")
    try:
        return await reading(file_answer, request, app.storage, key, cache_control=PUBLIC)
    except InvalidKeyError as error:
        raise NotFoundError("There is no such file.") from error
