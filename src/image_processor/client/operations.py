"""What a client can ask the service for, each written once, as a plan that either face performs."""

import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from image_processor.client.answers import (
    Batch,
    Deliveries,
    Delivery,
    FailedJob,
    Health,
    Job,
    JobState,
    JobStatus,
    ListedImage,
    Outcome,
    PriorityName,
    PublicStatus,
    Receipt,
    Result,
    Statistics,
    ThumbnailReceipt,
    Thumbnails,
    UploadState,
    UploadTicket,
    Variant,
    read_json,
)
from image_processor.client.batching import uploaded_many
from image_processor.client.bodies import Content, OnProgress, Source
from image_processor.client.calls import Caller, json_request
from image_processor.client.downloading import downloaded, downloaded_to
from image_processor.client.listing import all_failed_page, failed_page, images_page, jobs_page, pages
from image_processor.client.plans import Close, Plan, Request, Run, Series
from image_processor.client.refusals import UnexpectedAnswerError, refusal
from image_processor.client.retries import NEVER
from image_processor.client.uploading import (
    checked_key,
    opened,
    receipt,
    uploaded,
    uploaded_directly,
    uploaded_for_thumbnails,
)
from image_processor.client.waiting import OnStatus, OnThumbnails, Waiting
from image_processor.errors import InvalidRequestError, JobFailedError, NotFoundError

IMAGES = "/api/v1/images"
UPLOADS = f"{IMAGES}/uploads"
HEALTH = "/api/v1/health"
WISH = ("bucket", "preset", "metadata", "priority", "callback_url", "reuse")
"""What is asked for an upload, by the names of the interface."""
MAX_BATCH = 50
"""Images that one request may ask for."""
PAGE = 100
"""What one request of a list asks for."""
RESULT_SECONDS = 5.0
"""For the result of a job that came to rest at the last moment of a wait."""
MANY = 1_000_000


class Operations:
    """
    The interface. All of it raises what the service refuses as the error of its code.

    UnreachableError: the service could not be reached, for as long as the retries go.
    UnexpectedAnswerError: what answered is not this service.
    """

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def upload(  # noqa: PLR0913 - the fields of the interface, as keywords
        self,
        source: Source,
        *,
        bucket: str,
        preset: str = "web",
        metadata: Mapping[str, Any] | None = None,
        priority: PriorityName = "normal",
        callback_url: str | None = None,
        reuse: bool = False,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Plan[Receipt]:
        """
        Upload a picture; it is checked and durable when this returns, and processed soon after.

        Files and streams are read while they are sent. A lost answer makes no second job, as each upload has
        an idempotency key and keeps it. A stream that cannot be rewound is sent once.

        Args:
            source: a path, the bytes, or a stream opened for reading bytes, which stays open.
            bucket: the first part of the variants' addresses.
            preset: what is made of it.
            metadata: handed back with the result.
            priority: which due job is taken first.
            callback_url: gets a signed POST when the job has come to rest.
            reuse: whether the result of an earlier, same upload will do.
            idempotency_key: the same key with the same picture gives the same job for 24 hours. Give one
                where your program may die and upload again; otherwise one is made.
            on_progress: is told the bytes that were sent and those that there are, None where that is not
                known; from the beginning again where the upload is.

        Raises:
            UnsupportedFormatError, CorruptImageError, FileTooLargeError, ImageTooLargeError: what is wrong
                with the picture, as far as its header tells.
            RateLimitError: with `retry_after_seconds`.
            NotFoundError: there is no such file here.
        """
        content = yield Run(lambda: Content(source))
        asked = (bucket, preset, metadata, priority, callback_url, reuse or None)
        wish = dict(zip(WISH, asked, strict=True))
        key = idempotency_key or secrets.token_urlsafe(24)
        return (yield from uploaded(self.caller, content, wish, key, on_progress))

    def upload_many(  # noqa: PLR0913 - the fields of the interface, as keywords
        self,
        sources: Iterable[Source],
        *,
        bucket: str,
        preset: str = "web",
        metadata: Mapping[str, Any] | None = None,
        priority: PriorityName = "normal",
        callback_url: str | None = None,
        reuse: bool = False,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Plan[tuple[Outcome, ...]]:
        """
        Upload several pictures, 20 in each request; what became of each, in the order given.

        A file that is refused, or cannot be read, is an `error` of its own and spoils no other. What is wrong
        with all of them is raised by the first request; where a later one fails, that is the error of its
        files and of those behind. All else is as in `upload`, and holds for each file; `on_progress` counts
        the bytes of the files of one request, and begins anew with the next.
        """
        asked = (bucket, preset, metadata, priority, callback_url, reuse or None)
        wish = dict(zip(WISH, asked, strict=True))
        key = idempotency_key or secrets.token_urlsafe(24)
        return (yield from uploaded_many(self.caller, list(sources), wish, key, on_progress))

    def upload_directly(  # noqa: PLR0913 - the fields of the interface, as keywords
        self,
        source: Source,
        *,
        bucket: str,
        content_type: str | None = None,
        preset: str = "web",
        metadata: Mapping[str, Any] | None = None,
        priority: PriorityName = "normal",
        callback_url: str | None = None,
        reuse: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Plan[Receipt]:
        """
        Upload a picture straight into the storage, past the service; otherwise as `upload`.

        The picture is read twice, the first time for its digest; a stream has to be one that can be rewound.
        Its `content_type` need not be said for JPEG, PNG, WebP, GIF, AVIF, HEIC and TIFF.
        """
        content = yield Run(lambda: Content(source))
        asked = (bucket, preset, metadata, priority, callback_url, reuse or None)
        wish = dict(zip(WISH, asked, strict=True))
        return (yield from uploaded_directly(self.caller, content, wish, content_type, on_progress))

    def open_upload(  # noqa: PLR0913 - the fields of the interface, as keywords
        self,
        *,
        content_type: str,
        size_bytes: int,
        bucket: str,
        sha256: str | None = None,
        preset: str = "web",
        metadata: Mapping[str, Any] | None = None,
        priority: PriorityName = "normal",
        callback_url: str | None = None,
        reuse: bool = False,
    ) -> Plan[UploadTicket]:
        """
        Get an address to which somebody else, such as a browser, uploads one file; it needs no token.

        The first of the three steps of `upload_directly`; `complete_upload` is the last. The file has exactly
        `size_bytes`; with a `sha256`, 64 hexadecimal digits, other bytes are refused. The rest is as in
        `upload`.
        """
        asked = (bucket, preset, metadata, priority, callback_url, reuse or None)
        wish = dict(zip(WISH, asked, strict=True))
        file = {"content_type": content_type, "size_bytes": size_bytes, "sha256": sha256}
        return (yield from opened(self.caller, file | wish))

    def complete_upload(self, upload_id: str) -> Plan[Receipt]:
        """
        Have what was uploaded checked and processed; again: the same.

        Raises ConflictError where nothing was uploaded, and what `upload` raises.
        """
        return (yield from receipt(self.caller, Request("POST", _path(UPLOADS, upload_id, "complete"))))

    def upload_state(self, upload_id: str) -> Plan[UploadState]:
        """What became of a direct upload."""
        return (yield from self.caller.get(UploadState, _path(UPLOADS, upload_id)))

    def upload_for_thumbnails(  # noqa: PLR0913 - the fields of the interface, as keywords
        self,
        source: Source,
        *,
        metadata: Mapping[str, Any] | None = None,
        priority: PriorityName = "normal",
        callback_url: str | None = None,
        reuse: bool = False,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Plan[ThumbnailReceipt]:
        """
        Upload a JPEG, PNG or WebP of at most 10 MB, for square thumbnails and itself optimised.

        All else is as in `upload`; what is wrong with the picture has the status 400.
        """
        content = yield Run(lambda: Content(source))
        wish = {
            "metadata": metadata,
            "priority": priority,
            "callback_url": callback_url,
            "reuse": reuse or None,
        }
        key = idempotency_key or secrets.token_urlsafe(24)
        return (yield from uploaded_for_thumbnails(self.caller, content, wish, key, on_progress))

    def thumbnails(self, upload_id: str) -> Plan[Thumbnails]:
        """How the thumbnails of an upload stand."""
        return (yield from self.caller.get(Thumbnails, _path("/images", upload_id)))

    def wait_for_thumbnails(
        self, upload_id: str, *, timeout: float = 300.0, on_status: OnThumbnails | None = None
    ) -> Plan[Thumbnails]:
        """Wait until the thumbnails of an upload are complete, by polling. Raises as `wait`."""
        path = _path("/images", upload_id)
        waiting = Waiting(self.caller, Thumbnails, path, timeout, on_status)
        found = yield from waiting.until_final(by_events=False)
        if found.status == "failed":
            details = {"upload_id": upload_id, "code": found.error_code}
            raise JobFailedError(found.error or "The thumbnails could not be made.", **details)
        return found

    def wait(
        self,
        job_id: str,
        *,
        timeout: float = 300.0,
        on_status: OnStatus | None = None,
        by_events: bool = True,
    ) -> Plan[Result]:
        """
        Wait until a job has come to rest, and give its result.

        It listens to the job's event stream, goes on where one breaks off, and polls where there is none. A
        service that is down or restarts is waited for, too.

        Args:
            job_id: of an upload, or of a job whose result the service keeps.
            timeout: in seconds.
            on_status: is told of each new status.
            by_events: whether the event stream is used; otherwise there is only polling.

        Raises:
            JobFailedError: with the reason in `details`.
            WaitTimeoutError: it took too long; a TimeoutError. The job goes on.
        """
        ends_at = time.monotonic() + timeout
        path = _path(f"{IMAGES}/jobs", job_id)
        waiting = Waiting(self.caller, JobStatus, path, timeout, on_status)
        yield from waiting.until_final(by_events=by_events)
        seconds = max(RESULT_SECONDS, ends_at - time.monotonic())
        patient = replace(self.caller.retries, attempts=MANY, total_seconds=seconds)
        caller = replace(self.caller, retries=patient).until(time.monotonic() + seconds)
        return (yield from caller.get(Result, _path(f"{IMAGES}/jobs", job_id, "result")))

    def status(self, job_id: str) -> Plan[JobStatus]:
        """How a job goes."""
        return (yield from self.caller.get(JobStatus, _path(f"{IMAGES}/jobs", job_id)))

    def result(self, job_id: str) -> Plan[Result]:
        """
        The variants of a job's image.

        Raises ResultNotReadyError until the job has completed, JobFailedError when it failed.
        """
        return (yield from self.caller.get(Result, _path(f"{IMAGES}/jobs", job_id, "result")))

    def image(self, image_id: str, size: str | None = None) -> Plan[Variant]:
        """One variant of an image, `medium` if no name is given. Raises as `result`, and NotFoundError."""
        return (yield from self.caller.get(Variant, _path(IMAGES, image_id), _size(size)))

    def urls(self, image_id: str) -> Plan[dict[str, str]]:
        """The whole address of each variant of an image, by name. Raises as `result`."""
        found = yield from self.caller.get(Result, _path(IMAGES, image_id, "all"))
        return {name: self.caller.absolute(url) for name, url in found.urls.items()}

    def download(
        self, image_id: str, size: str | None = None, *, to: str | os.PathLike[str] | None = None
    ) -> Plan[bytes | Path]:
        """The bytes of one variant, `medium` if no name is given, or the path of the file they are in."""
        request = Request("GET", _path(IMAGES, image_id, "direct"), params=_size(size))
        if to is None:
            return (yield from downloaded(self.caller, request))
        return (yield from downloaded_to(self.caller, request, Path(to)))

    def images(self, *, status: JobState | None = None, bucket: str | None = None) -> Series[ListedImage]:
        """Your images, the newest first, fetched page by page; those that come in meanwhile move nothing."""
        query = _query({"status": status, "bucket": bucket})
        return Series(pages(self.caller, IMAGES, query, images_page))

    def batch(self, image_ids: Sequence[str], size: str | None = None) -> Plan[Batch]:
        """One variant each of several images, in the order asked for; every 50 are one request."""
        found: list[Batch] = []
        for start in range(0, len(image_ids), MAX_BATCH):
            ids = ",".join(image_ids[start : start + MAX_BATCH])
            query = {"image_ids": ids, **_size(size)}
            found.append((yield from self.caller.get(Batch, f"{IMAGES}/batch", query)))
        return Batch(
            images=tuple(image for part in found for image in part.images),
            not_found=tuple(image_id for part in found for image_id in part.not_found),
        )

    def delete(self, image_id: str) -> Plan[None]:
        """Delete an image with all its variants; a job that still runs is cancelled. Raises NotFoundError."""
        request = Request("DELETE", _path(IMAGES, image_id))
        attempts = 0

        def attempt(caller: Caller) -> Plan[None]:
            nonlocal attempts
            attempts += 1
            yield Close((yield from caller.open(request)))

        try:
            yield from self.caller.persist(attempt)
        except NotFoundError:
            if attempts == 1:
                raise
            # An attempt whose answer was lost had done it.

    def submit_job(  # noqa: PLR0913 - the fields of the interface, as keywords
        self,
        input: str,  # noqa: A002 - the interface's word
        *,
        operations: Sequence[Mapping[str, Any]] = (),
        output: str | None = None,
        priority: PriorityName = "normal",
        ttl_seconds: int | None = None,
        max_retries: int | None = None,
        callback_url: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        bucket: str | None = None,
        reuse: bool = False,
        idempotency_key: str | None = None,
    ) -> Plan[Receipt]:
        """
        Ask for a job of `/jobs`: a picture from a URL, changed, to a URL or the service's own storage.

        The service reads `https://`, `file://` and `s3://`, and writes the last two, as far as it is allowed
        to; without an `output` its own storage keeps the result. Operations are written as in
        `{"op": "resize", "width": 800}`. The rest is as in `upload`; a job that did not start within its
        `ttl_seconds` fails as expired.

        Raises InvalidRequestError and what else can be refused without the picture.
        """
        asked = {
            "input": input,
            "operations": list(operations),
            "output": output,
            "priority": priority,
            "ttl_seconds": ttl_seconds,
            "max_retries": max_retries,
            "callback_url": callback_url,
            "metadata": metadata,
            "bucket": bucket,
            "reuse": reuse or None,
        }
        key = {"Idempotency-Key": checked_key(idempotency_key or secrets.token_urlsafe(24))}
        return (yield from receipt(self.caller, json_request("POST", "/jobs", asked, **key)))

    def job(self, job_id: str) -> Plan[Job]:
        """A job in the words of `/jobs`; uploads are jobs too."""
        return (yield from self.caller.get(Job, _path("/jobs", job_id)))

    def jobs(
        self,
        *,
        status: PublicStatus | None = None,
        priority: PriorityName | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Series[Job]:
        """Your jobs, the newest first, fetched page by page; those that come in meanwhile move nothing."""
        query = {
            "status": status,
            "priority": priority,
            "created_after": created_after.isoformat() if created_after else None,
            "created_before": created_before.isoformat() if created_before else None,
        }
        return Series(pages(self.caller, "/jobs", _query(query), jobs_page))

    def failed(self) -> Series[Job]:
        """Your jobs that failed, the latest first; not those that you cancelled or deleted."""
        return Series(pages(self.caller, "/jobs/failed", _query({}), failed_page))

    def retry(self, job_id: str) -> Plan[Job]:
        """
        Begin a failed job anew, with all its attempts. It takes one upload of the limit.

        Sent once where the answer may have been lost: look at the job. Raises ConflictError where the job
        did not fail, or was cancelled.
        """
        return (yield from self.caller.post(Job, _path("/jobs", job_id, "retry"), repeats_lost=False))

    def cancel(self, job_id: str) -> Plan[Job]:
        """End a job; one that runs ends with its worker's next heartbeat. Raises ConflictError."""
        return (yield from self.caller.post(Job, _path("/jobs", job_id, "cancel")))

    def deliveries(self, job_id: str) -> Plan[tuple[Delivery, ...]]:
        """What was, or is to be, sent to the callback URL of a job: the newest first, at most 100."""
        found = yield from self.caller.get(Deliveries, _path("/jobs", job_id, "deliveries"))
        return found.deliveries

    def replay(self, job_id: str, delivery_id: str) -> Plan[Delivery]:
        """
        Send a delivery that was accepted or given up again. It takes one upload of the limit.

        Sent once where the answer may have been lost: look at the deliveries.
        """
        path = f"{_path('/jobs', job_id)}/{_path('deliveries', delivery_id, 'replay')}"
        return (yield from self.caller.post(Delivery, path, repeats_lost=False))

    def health(self) -> Plan[Health]:
        """
        How the service says it is, also where it is not well; asked once, and without the token.

        Raises UnavailableError where a proxy answers in its place.
        """
        request = Request("GET", self.caller.absolute(HEALTH), accepted=(503,))
        answer = yield from replace(self.caller, retries=NEVER).call(request)
        try:
            return read_json(Health, answer.body)
        except UnexpectedAnswerError:
            if answer.status == 200:
                raise
            raise refusal(answer.status, answer.headers, answer.body) from None

    def statistics(self) -> Plan[Statistics]:
        """The service in numbers. Needs the scope `admin`; raises ForbiddenError without."""
        return (yield from self.caller.get(Statistics, f"{HEALTH}/stats"))

    def failed_of_all(self) -> Series[FailedJob]:
        """The failed jobs of all users, the newest first. Needs the scope `admin`."""
        return Series(pages(self.caller, f"{HEALTH}/failed", _query({}), all_failed_page))


def _path(start: str, identifier: str, *end: str) -> str:
    """Raises InvalidRequestError for what would be another path."""
    if not identifier.strip("."):
        raise InvalidRequestError("An id is missing.")
    return "/".join((start, quote(identifier, safe=""), *end))


def _query(asked: Mapping[str, str | None]) -> dict[str, str]:
    """With as many values in a page as may be."""
    return {name: value for name, value in asked.items() if value} | {"limit": str(PAGE)}


def _size(size: str | None) -> dict[str, str]:
    return {"size": size} if size else {}
