"""The repositories against a model in memory, in any order of calls that Hypothesis can think of."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from image_processor.errors import (
    CorruptImageError,
    EngineCrashedError,
    EngineTimeoutError,
    RateLimitError,
    StorageError,
    StorageFullError,
)
from image_processor.jobs import Database, Lease, RateLimit, Status
from integration.jobs.conftest import Room, emptied
from integration.jobs.job_samples import an_upload, some_facts

HELD, ENDED = 3600.0, -1.0
RATE_LIMIT = RateLimit(max_uploads=12, window_seconds=10 * 365 * 86_400)
DEAD = {"exhausted", "poison", "expired"}
WAITING = {"pending", "retrying"}


@dataclasses.dataclass
class Modelled:
    """What a job ought to be; times are either now or never."""

    job_id: str
    image_id: str
    priority: int
    order: int
    status: str = "pending"
    reason: str | None = None
    attempts: int = 0
    crashes: int = 0
    timeouts: int = 0
    seq: int = 0
    lease_ended: bool = False
    expired: bool = False
    asleep: bool = False
    cancelling: bool = False
    deleted: bool = False
    purging: bool = False

    @property
    def is_due(self):
        return self.status in WAITING and not self.asleep and not self.expired

    def end(self, status, reason=None):
        self.status, self.reason = ("failed", "cancelled") if self.cancelling else (status, reason)

    def owns(self, claim):
        return self.status == "processing" and self.seq == claim.claim_seq

    def charge(self):
        self.end(*(("failed", "exhausted") if self.attempts > 3 else ("retrying", None)))

    def crash(self):
        self.crashes += 1
        self.end("failed", "poison") if self.crashes >= 3 else self.charge()

    def time_out(self):
        self.timeouts += 1
        self.end("failed", "exhausted") if self.timeouts >= 2 else self.charge()

    def refund(self, status):
        self.attempts -= 1
        self.end(status)


class JobsAndTheirModel(RuleBasedStateMachine):
    claims = Bundle("claims")

    @staticmethod
    def fresh() -> Path | str:
        """Where an empty database is."""
        raise NotImplementedError

    def __init__(self):
        super().__init__()
        where = self.fresh()
        self.room = Room(where, Database.open(where))
        self.model: dict[str, Modelled] = {}
        self.known = {}

    def teardown(self):
        self.room.database.close()

    def any_job(self, data):
        return self.model[data.draw(st.sampled_from(sorted(self.model)))]

    @rule(priority=st.integers(0, 2), expired=st.booleans())
    def submit(self, priority, expired):
        upload = an_upload(priority=priority, ttl_seconds=ENDED if expired else HELD)
        if len(self.model) >= RATE_LIMIT.max_uploads:
            with pytest.raises(RateLimitError):
                self.room.jobs.submit(upload, RATE_LIMIT)
            return
        receipt = self.room.jobs.submit(upload, RATE_LIMIT)
        order = len(self.model)
        # The clock has milliseconds: make the order of submission the order of age.
        self.room.execute(
            "update processing_jobs set run_at = :at where job_id = :id", at=order, id=receipt.job_id
        )
        self.model[receipt.job_id] = Modelled(
            receipt.job_id, receipt.image_id, priority, order, expired=expired
        )
        assert receipt.quota.remaining == RATE_LIMIT.max_uploads - len(self.model)

    @rule(target=claims, lease_ended=st.booleans())
    def claim_best(self, lease_ended):
        claim = self.room.jobs.claim("w", ENDED if lease_ended else HELD)
        due = [job for job in self.model.values() if job.is_due]
        if not due:
            assert claim is None
            return None
        assert self.model[claim.job_id].priority == min(job.priority for job in due)
        return self.claimed(claim, lease_ended=lease_ended)

    @precondition(lambda self: self.model)
    @rule(target=claims, data=st.data(), lease_ended=st.booleans())
    def claim_one(self, data, lease_ended):
        job = self.any_job(data)
        was_due = job.is_due
        claim = self.room.jobs.claim("w", ENDED if lease_ended else HELD, job.job_id)
        assert (claim is not None) == was_due
        return None if claim is None else self.claimed(claim, lease_ended=lease_ended)

    def claimed(self, claim, *, lease_ended):
        job = self.model[claim.job_id]
        assert job.is_due
        job.status, job.lease_ended = "processing", lease_ended
        job.attempts += 1
        job.seq += 1
        assert (claim.claim_seq, claim.history.attempt) == (job.seq, job.attempts)
        assert (claim.history.crash_count, claim.history.timeout_count) == (job.crashes, job.timeouts)
        return claim

    @rule(claim=claims, lease_ended=st.booleans())
    def heartbeat(self, claim, lease_ended):
        if claim is None:
            return
        job = self.model[claim.job_id]
        answer = self.room.jobs.heartbeat(claim, ENDED if lease_ended else HELD)
        if not job.owns(claim):
            assert answer is Lease.LOST
            return
        job.lease_ended = lease_ended
        assert answer is (Lease.CANCEL_REQUESTED if job.cancelling else Lease.HELD)

    @rule(claim=claims)
    def complete(self, claim):
        if claim is None:
            return
        job = self.model[claim.job_id]
        completed = self.room.jobs.complete(claim, some_facts())
        assert completed == (job.owns(claim) and not job.cancelling)
        if job.owns(claim):
            job.end("completed")

    @rule(
        claim=claims,
        way=st.sampled_from(["fail", "reject", "crash", "time out", "outage", "snooze", "release"]),
    )
    def end_attempt(self, claim, way):
        if claim is None:
            return
        job = self.model[claim.job_id]
        jobs = self.room.jobs
        calls = {
            "fail": lambda: jobs.fail(claim, StorageError("It failed.")),
            "reject": lambda: jobs.fail(claim, CorruptImageError("Truncated.")),
            "crash": lambda: jobs.fail(claim, EngineCrashedError("It died.")),
            "time out": lambda: jobs.fail(claim, EngineTimeoutError("Too slow.")),
            "outage": lambda: jobs.fail(claim, StorageFullError("The disk is full.")),
            "snooze": lambda: jobs.snooze(claim, HELD),
            "release": lambda: jobs.release(claim),
        }
        effects = {
            "fail": job.charge,
            "reject": lambda: job.end("failed", "rejected"),
            "crash": job.crash,
            "time out": job.time_out,
            "outage": lambda: job.refund("retrying"),
            "snooze": lambda: job.refund("retrying"),
            "release": lambda: job.refund("pending"),
        }
        owned = job.owns(claim)
        settlement = calls[way]()
        assert (settlement is not None) == owned
        if not owned:
            return
        effects[way]()
        job.asleep = way in {"outage", "snooze"}
        assert (settlement.status, settlement.reason) == (job.status, job.reason)
        assert settlement.attempt_count == job.attempts

    @rule()
    def wake(self):
        self.room.execute("update processing_jobs set run_at = 1 where status = 'retrying'")
        for job in self.model.values():
            job.asleep = False if job.status == "retrying" else job.asleep

    @rule()
    def reap(self):
        dead = [job for job in self.model.values() if job.status == "processing" and job.lease_ended]
        assert {s.job_id for s in self.room.recovery.reap()} == {job.job_id for job in dead}
        for job in dead:
            job.crash()
            job.asleep = False

    @rule()
    def expire(self):
        late = [job for job in self.model.values() if job.status in WAITING and job.expired]
        assert {s.job_id for s in self.room.recovery.expire()} == {job.job_id for job in late}
        for job in late:
            job.end("failed", "expired")

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data):
        job = self.any_job(data)
        answer = self.room.jobs.cancel(job.job_id, "ada")
        if job.deleted:
            assert answer is None
            return
        self.call_off(job)
        assert (answer.status, answer.reason, answer.cancel_requested) == (
            job.status,
            job.reason,
            job.cancelling,
        )

    def call_off(self, job):
        if job.status in WAITING:
            job.end("failed", "cancelled")
        elif job.status == "processing":
            job.cancelling = True

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        job = self.any_job(data)
        image = self.room.images.delete(job.image_id, "ada")
        assert (image is None) == job.deleted
        if not job.deleted:
            self.call_off(job)
            job.deleted = True

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def replay(self, data):
        job = self.any_job(data)
        may = job.status == "failed" and job.reason in DEAD and not job.deleted and not job.purging
        assert self.room.jobs.replay(job.job_id, user_id="ada", ttl_seconds=HELD) is may
        if may:
            job.status, job.reason, job.expired, job.asleep = "pending", None, False, False
            job.attempts = job.crashes = job.timeouts = 0

    @rule()
    def begin_purges_after_the_grace(self):
        self.room.execute("update images set purge_after = 1 where purge_after is not null")
        for purge in self.room.images.purgeable():
            next(j for j in self.model.values() if j.image_id == purge.image_id).purging = True

    @rule()
    def finish_purges(self):
        for job in self.model.values():
            assert self.room.images.mark_purged(job.image_id) is job.purging
            job.purging = False

    @invariant()
    def the_database_agrees(self):
        with self.room.database.read() as connection:
            rows = connection.exec_driver_sql("select * from processing_jobs").mappings().all()
        assert {row["job_id"] for row in rows} == set(self.model)
        for row in rows:
            job = self.model[row["job_id"]]
            assert (row["status"], row["reason"], row["claim_seq"]) == (job.status, job.reason, job.seq)
            assert (row["attempt_count"], row["crash_count"]) == (job.attempts, job.crashes)
            assert row["timeout_count"] == job.timeouts
            assert row["attempt_count"] <= 4
            assert row["crash_count"] <= 3

    @invariant()
    def only_what_completed_and_was_not_deleted_is_served(self):
        ids = [job.image_id for job in self.model.values()]
        images = self.room.images.images(ids, "ada")
        assert set(images) == {job.image_id for job in self.model.values() if not job.deleted}
        for job in self.model.values():
            if not job.deleted:
                assert bool(images[job.image_id].variants) == (job.status == "completed")
                assert images[job.image_id].status == job.status

    @invariant()
    def nothing_that_lives_or_is_served_waits_for_its_purge(self):
        with self.room.database.read() as connection:
            rows = (
                connection.exec_driver_sql("select * from images where purge_after is not null")
                .mappings()
                .all()
            )
        waiting = {row["image_id"] for row in rows}
        for job in self.model.values():
            if job.image_id in waiting:
                assert job.deleted or job.status == "failed"

    @invariant()
    def the_audit_trail_tells_the_whole_story(self):
        for job in self.model.values():
            events = self.room.jobs.events(job.job_id)
            kinds = Counter(event.event_type for event in events)
            assert kinds["upload_initiated"] == 1
            assert kinds["processing_started"] == job.seq
            assert kinds["completed"] == (job.status == "completed")
            steps = [event.metadata for event in events if "new" in event.metadata]
            assert [step.get("old") for step in steps] == [None, *(step["new"] for step in steps[:-1])]
            assert steps[-1]["new"] == job.status

    @invariant()
    def the_statistics_count_the_same(self):
        counted = self.room.statistics.statistics().status_breakdown
        expected = Counter(job.status for job in self.model.values())
        assert counted == {status: expected[status] for status in Status}


def test_the_repositories_do_what_the_model_does(migrated, tmp_path):
    check(lambda: Path(shutil.copy(migrated, tmp_path / "processor.db")), examples=40)


@pytest.mark.slow
def test_the_repositories_do_the_same_on_postgresql(shared_url):
    check(lambda: emptied(shared_url), examples=10)


def check(make, *, examples):
    class Bound(JobsAndTheirModel):
        fresh = staticmethod(make)

    Bound.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    Bound.TestCase().runTest()
