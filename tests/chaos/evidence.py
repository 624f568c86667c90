"""What can be found after a run: rows, trails, files, ledger, logs; and the tale of what is not at rest."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import text

from chaos.site import Site
from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.settings import Settings

LOG_LINES = 12
TALES = 3
Row = Mapping[str, Any]

JOBS = text("select * from processing_jobs order by job_id")
IMAGES = text("select * from images")
EVENTS = statement("select * from image_upload_events order by <event_order>")
LIVE = ("pending", "processing", "retrying")


@dataclass(frozen=True)
class Evidence:
    """All of it, at one moment."""

    site: Site
    jobs: dict[str, Row]
    images: dict[str, Row]
    events: dict[str, list[Row]]
    """Of each job, in order; the metadata of each is among its fields."""
    staged: set[str]
    scratch: set[str]
    files: set[str]
    """Everything that lies in the storage, by its path: also what is no object."""
    storage: Path
    has_broker: bool

    @classmethod
    def gather(cls, site: Site, database: Database, settings: Settings) -> Self:
        # First the files, then the rows: what is removed in between is no longer missed.
        files = _files(settings.storage)
        staged, scratch = _names(settings.staging), _names(settings.scratch)
        with database.read() as connection:
            jobs = {row["job_id"]: dict(row) for row in connection.execute(JOBS).mappings()}
            images = {row["image_id"]: dict(row) for row in connection.execute(IMAGES).mappings()}
            events = defaultdict(list)
            for row in connection.execute(EVENTS).mappings():
                events[row["job_id"]].append({**row, **json.loads(row["metadata"])})
        return cls(
            site=site,
            jobs=jobs,
            images=images,
            events=events,
            staged=staged,
            scratch=scratch,
            files=files,
            storage=settings.storage,
            has_broker=settings.queue_backend != "embedded",
        )

    def changes(self, job_id: str) -> list[Row]:
        """The events of a job that say what state it is in."""
        return [event for event in self.events[job_id] if "new" in event]

    def lives(self, job_id: str) -> list[list[Row]]:
        """The same, from birth or replay to the next replay."""
        lives: list[list[Row]] = []
        for event in self.changes(job_id):
            if not lives or event["event_type"] == "replayed":
                lives.append([])
            lives[-1].append(event)
        return lives

    def variants(self, image_id: str) -> dict[str, Row]:
        """What a reader of the image is promised, by key; nothing where it is deleted."""
        image = self.images[image_id]
        if image["deleted_at"] or not image["variants"]:
            return {}
        return {variant["key"]: variant for variant in json.loads(image["variants"]).values()}

    def promised_files(self) -> dict[str, Row]:
        completed = [job["image_id"] for job in self.jobs.values() if job["status"] == "completed"]
        return {key: variant for image_id in completed for key, variant in self.variants(image_id).items()}

    def hash_of(self, key: str) -> str:
        return hashlib.sha256((self.storage / key).read_bytes()).hexdigest()

    def needed_originals(self) -> set[str]:
        """Staged files that a dead letter may be replayed with."""
        return {
            job["staging_path"]
            for job in self.jobs.values()
            if job["status"] == "failed"
            and job["reason"] not in ("cancelled", "rejected")
            and not self.images[job["image_id"]]["deleted_at"]
        }

    def unrest(self) -> dict[str, list[str]]:
        """What is not done yet, by what it is; nothing where all is at rest."""
        found = {
            "jobs that go on": [job_id for job_id, job in self.jobs.items() if job["status"] in LIVE],
            "purges": [
                image_id for image_id, image in self.images.items() if image["purge_after"] is not None
            ],
            "staged": sorted(self.staged - self.needed_originals()),
            "scratch": sorted(self.scratch),
            "stray files": sorted(self.files - set(self.promised_files())),
        }
        return {what: names for what, names in found.items() if names}

    def stuck(self) -> str:
        """What is not done, and the tale of the first few jobs among it."""
        unrest = self.unrest()
        lines = [f"{what}: {len(names)}: {' '.join(names[:10])}" for what, names in unrest.items()]
        concerned = [
            *unrest.get("jobs that go on", []),
            *(self.images[image_id]["job_id"] for image_id in unrest.get("purges", [])),
            *(job_id for job_id, job in self.jobs.items() if job["staging_path"] in unrest.get("staged", [])),
            *(
                job["job_id"]
                for job in self.jobs.values()
                for file in unrest.get("stray files", [])
                if job["image_id"] in file
            ),
        ]
        tales = [self.tale(job_id) for job_id in list(dict.fromkeys(concerned))[:TALES]]
        return "\n".join([f"seed {self.site.seed}: not at rest", *lines, *tales])

    def tale(self, job_id: str) -> str:
        """All that is known of a job, for people."""
        job = self.jobs[job_id]
        row = {name: value for name, value in job.items() if name not in ("pipeline", "processing_metadata")}
        trail = [
            f"  {event['created_at']} {event['event_type']} "
            f"{ ({name: event.get(name) for name in ('old', 'new', 'attempt', 'claim_seq', 'reason')}) }"
            for event in self.events[job_id]
        ]
        ledger = [f"  {line}" for line in self.site.ledger.lines() if line.get("job_id") == job_id]
        return "\n".join(
            [
                f"--- job {job_id}",
                f"row: {row}",
                f"image: {self.images[job['image_id']]}",
                *("trail:", *trail),
                *("ledger:", *ledger),
                *("logs:", *self._log_lines(job_id)),
            ]
        )

    def _log_lines(self, job_id: str) -> list[str]:
        lines = []
        for log in sorted((self.site.path / "logs").iterdir()):
            found = log.read_text(errors="replace").splitlines()
            mentioned = [line for line in found if job_id in line]
            lines += [f"  {log.stem}: {line}" for line in mentioned[-LOG_LINES:]]
            if mentioned:
                lines += [f"  {log.stem} ends: {line}" for line in found[-3:]]
        return lines

    def log_lines(self, *words: str) -> list[str]:
        """The lines of all logs with one of these words in them."""
        return [
            f"{log.stem}: {line}"
            for log in sorted((self.site.path / "logs").iterdir())
            for line in log.read_text(errors="replace").splitlines()
            if any(word in line for word in words)
        ]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
