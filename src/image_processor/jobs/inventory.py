"""What the rows say should be stored: every image page by page, for those who compare it with a storage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter
from sqlalchemy import RowMapping

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.states import LIVE, Status
from image_processor.jobs.values import StoredVariant
from image_processor.pipeline import ImageFormat, Pipeline

PAGE_IMAGES = 1000

COLUMNS = """
images.image_id, images.user_id, images.bucket, images.sha256, images.source_format, images.created_at,
images.variants, images.deleted_at, images.purge_after,
processing_jobs.status, processing_jobs.pipeline, processing_jobs.key_template
"""

PAGE = statement(f"""
select {COLUMNS} from images left join processing_jobs on processing_jobs.job_id = images.job_id
where images.image_id > :after order by images.image_id limit :limit
""")  # noqa: S608

ONE = statement(f"""
select {COLUMNS} from images left join processing_jobs on processing_jobs.job_id = images.job_id
where images.image_id = :image_id
""")  # noqa: S608

_VARIANTS = TypeAdapter(dict[str, StoredVariant])


class Standing(StrEnum):
    """What is to be expected in the storage of an image."""

    KEPT = "kept"
    """Its job is completed: every variant is there."""
    UNSETTLED = "unsettled"
    """A worker may be storing it, or the sweeper removing it: there may be some of it, or nothing."""
    FAILED = "failed"
    """Its job failed and what there was has been removed; a replay may store it anew."""
    DELETED = "deleted"
    """It was deleted and what there was has been removed: there is nothing, and never will be."""


@dataclass(frozen=True, kw_only=True)
class InventoryImage:
    """An image, whosever it is, with all that its keys are made from."""

    image_id: str
    user_id: str
    bucket: str
    sha256: str
    source_format: ImageFormat | None
    created_at: str
    standing: Standing
    variants: Mapping[str, StoredVariant]
    """What its job stored; empty where it is not completed."""
    pipeline: Pipeline | None
    """With the key template: what an attempt may have stored. None where a newer version wrote it."""
    key_template: str


class InventoryRepository:
    """The images of all users, deleted ones too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def images(self, page_images: int = PAGE_IMAGES) -> Iterator[InventoryImage]:
        """
        Every image once, by id, a page in memory at a time.

        Each page is of its own moment: an image that comes while this runs may be missed.
        """
        after = ""
        while page := self._page(after, page_images):
            yield from page
            after = page[-1].image_id

    def image(self, image_id: str) -> InventoryImage | None:
        """One image as it is now; None where it is not known, or not any more."""
        with self._database.read() as connection:
            row = connection.execute(ONE, {"image_id": image_id}).mappings().one_or_none()
            return None if row is None else _to_image(row)

    def _page(self, after: str, limit: int) -> list[InventoryImage]:
        with self._database.read() as connection:
            rows = connection.execute(PAGE, {"after": after, "limit": limit}).mappings()
            return [_to_image(row) for row in rows]


def _to_image(row: RowMapping) -> InventoryImage:
    names = ("image_id", "user_id", "bucket", "sha256", "created_at")
    return InventoryImage(
        **{name: row[name] for name in names},
        source_format=ImageFormat(row["source_format"]) if row["source_format"] else None,
        standing=_standing(row),
        variants={} if row["variants"] is None else _VARIANTS.validate_json(row["variants"]),
        pipeline=_pipeline(row["pipeline"]),
        key_template=row["key_template"] or "",
    )


def _standing(row: RowMapping) -> Standing:
    if row["purge_after"] is not None or row["status"] in LIVE:
        return Standing.UNSETTLED
    if row["deleted_at"] is not None:
        return Standing.DELETED
    return Standing.FAILED if row["status"] == Status.FAILED else Standing.KEPT


def _pipeline(text: str | None) -> Pipeline | None:
    try:
        return None if text is None else Pipeline.model_validate_json(text)
    except ValueError:
        return None
