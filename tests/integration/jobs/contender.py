"""One of several processes that fight over a database: `contender.py ROLE WHERE NAME`; its gains as JSON."""

import json
import sys
from pathlib import Path

from job_samples import an_upload, some_facts

from image_processor.errors import RateLimitError
from image_processor.jobs import Database, JobRepository, RateLimit, RecoveryRepository

RATE_LIMIT = RateLimit(max_uploads=57, window_seconds=10 * 365 * 86_400)


def migrate(database, name):
    database.migrate()
    return "migrated"


def claim(database, name):
    """Claim and complete whatever there is."""
    jobs, claimed = JobRepository(database), []
    while attempt := jobs.claim(name, 60):
        assert jobs.complete(attempt, some_facts())
        claimed.append(attempt.job_id)
    return claimed


def upload(database, name):
    """Upload thirty times; what remained after each, or None for a refusal."""
    jobs = JobRepository(database)
    return [upload_once(jobs) for _ in range(30)]


def upload_once(jobs):
    try:
        return jobs.submit(an_upload(), RATE_LIMIT).quota.remaining
    except RateLimitError:
        return None


def reap(database, name):
    recovery, reaped = RecoveryRepository(database), []
    while settlements := recovery.reap(limit=7):
        reaped += [settlement.job_id for settlement in settlements]
    return reaped


def main(role, where, name):
    database = Database.open(where if "://" in where else Path(where))
    print("ready", flush=True)
    sys.stdin.readline()
    outcome = {"migrate": migrate, "claim": claim, "upload": upload, "reap": reap}[role](database, name)
    database.close()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
