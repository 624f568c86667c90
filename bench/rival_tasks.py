"""The task of the workers of Celery and RQ: it notes that it begins, takes its time, and is done."""

import os
import time
from pathlib import Path

from celery import Celery

JOB_SECONDS = 5.0

app = Celery("rivals", broker=os.environ.get("RIVAL_BROKER", "redis://127.0.0.1:1/0"))


def work(diary: str) -> None:
    """One job; `diary` is the file that tells of it."""
    _note(diary, "begun")
    time.sleep(JOB_SECONDS)
    _note(diary, "completed")


def _note(diary: str, word: str) -> None:
    with Path(diary).open("a", encoding="utf-8") as file:
        file.write(f"{word} {time.time()} {os.getpid()}\n")


early = app.task(name="early")(work)
late = app.task(name="late", acks_late=True)(work)
rejecting = app.task(name="rejecting", acks_late=True, reject_on_worker_lost=True)(work)
