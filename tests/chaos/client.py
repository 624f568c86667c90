"""The user, a process of its own: does what the plan has it do, and asks again until it is answered."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chaos.meetings import Word
from chaos.pictures import tagged
from chaos.plan import BUCKET, USER, Action, Kind, What
from chaos.site import Site
from image_processor.bootstrap import build_app
from image_processor.errors import ConflictError, NotFoundError, UnavailableError
from image_processor.jobs.states import Status
from image_processor.jobs.values import Priority
from image_processor.service import Submission
from image_processor.settings import load_settings

AGAIN_SECONDS = 0.2
THREADS = 16


@dataclass(frozen=True)
class Job:
    """What the answer to a submit names."""

    job_id: str
    image_id: str


class Client:
    """One user of the service, who keeps every answer."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._service = build_app(load_settings()).service
        self._picture = site.picture
        self._jobs: dict[int, Job] = {}
        self._answered: set[tuple[float, int, str]] = set()
        for line in site.ledger.lines("answer"):
            self._remember(line)

    def _remember(self, line) -> None:
        self._answered.add((line["at"], line["number"], line["action"]))
        if line["action"] == What.SUBMIT:
            self._jobs[line["number"]] = Job(line["job_id"], line["image_id"])

    def run(self) -> None:
        """Do all that has not been answered, each when its time comes."""
        todo = [
            action
            for action in self._site.plan.actions
            if (action.at, action.number, action.what) not in self._answered
        ]
        with ThreadPoolExecutor(THREADS) as threads:
            for action in todo:
                time.sleep(max(0.0, action.at - self._site.seconds()))
                threads.submit(self._insist, action)
        self._site.ledger.note("client done")

    def _insist(self, action: Action) -> None:
        while (answer := self._try(action)) is None:
            time.sleep(AGAIN_SECONDS)
        line = {"at": action.at, "number": action.number, "action": action.what, **answer}
        self._site.ledger.note("answer", **line)
        self._remember(line)

    def _try(self, action: Action) -> dict | None:
        """The answer; None where there is none yet."""
        work = {
            What.SUBMIT: self._submit,
            What.CANCEL: self._cancel,
            What.DELETE: self._delete,
            What.REPLAY: self._replay,
        }[action.what]
        try:
            return work(action.number)
        except UnavailableError:
            return None
        except (ConflictError, NotFoundError) as error:
            return {"refused": error.code}
        except Exception as error:  # noqa: BLE001 - the test is to say so
            return {"unforeseen": f"{type(error).__name__}: {error}"}

    def _submit(self, number: int) -> dict:
        planned = self._site.plan.jobs[number]
        key = f"upload-{number}"
        file = self._service.open_upload(USER, key)
        file.write(tagged(self._picture, planned.tag))
        submission = Submission(
            user_id=USER, bucket=BUCKET, priority=Priority(planned.priority), idempotency_key=key
        )
        receipt = self._service.submit(file.finish(), submission)
        return {
            "job_id": receipt.job_id,
            "image_id": receipt.image_id,
            "joined": receipt.joined,
            "replayed": receipt.replayed,
        }

    def _cancel(self, number: int) -> dict | None:
        if number not in self._jobs or self._is_too_soon(number):
            return None
        job = self._service.cancel(USER, self._jobs[number].job_id)
        self._site.meetings.note(Word.CANCELLED, self._site.plan.jobs[number].tag)
        return {"job_id": job.job_id, "status": job.status, "cancel_requested": job.cancel_requested}

    def _is_too_soon(self, number: int) -> bool:
        """Whether a job that is to be cancelled right before its commit may still come there."""
        planned = self._site.plan.jobs[number]
        return (
            planned.kind is Kind.UNWANTED
            and not self._site.meetings.of(Word.READY, planned.tag)
            and self._service.job(USER, self._jobs[number].job_id).is_live
        )

    def _delete(self, number: int) -> dict | None:
        if number not in self._jobs:
            return None
        self._service.delete(USER, self._jobs[number].image_id)
        return {"image_id": self._jobs[number].image_id}

    def _replay(self, number: int) -> dict | None:
        if number not in self._jobs:
            return None
        job = self._service.job(USER, self._jobs[number].job_id)
        if job.is_live:
            return None
        if job.status is Status.FAILED:
            self._service.retry(USER, job.job_id)
        return {"job_id": job.job_id, "status": job.status}


def run(site: Site) -> int:
    Client(site).run()
    return 0


if __name__ == "__main__":
    sys.exit(run(Site.here()))
