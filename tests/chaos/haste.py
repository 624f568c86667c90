"""
The parts of the program with their patience shortened, as the tests cannot wait for hours, and watched.

What is shortened, beside what settings say: delays of retries and snoozes, the grace before a purge, the age
of what counts as left behind, the signs of life of workers, the time after which a hint counts as lost, and
how often the sweeper's rarer steps are due.
"""

from dataclasses import dataclass, replace
from functools import partial

from chaos.engine import ChaosEngine, Moments
from chaos.plan import Spot
from chaos.site import Site
from image_processor import bootstrap
from image_processor.bootstrap import WorkerParts, application, workers
from image_processor.errors import UnavailableError
from image_processor.intake.stage import Stage
from image_processor.jobs import dispatch
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.retry import RetryPolicy
from image_processor.jobs.workers import WorkerRepository
from image_processor.maintenance import outputs, sweeper
from image_processor.runner import Places
from image_processor.worker import presence

POLICY = RetryPolicy(delays_seconds=(0.1, 0.3, 0.8), snooze_jitter_seconds=0.3)
SNOOZE_SECONDS = 0.5
SEEN_SECONDS = 4.0
REPORT_SECONDS = 1.0
LOST_SECONDS = 2.0
STEP_SECONDS = 1.0
PURGE_SECONDS = 5.0
UPLOAD_SECONDS = 12.0
"""Longer than an upload that is staged already waits for a database that somebody holds in his sleep."""


class WatchedJobs(JobRepository):
    """Notes which claims ended by their own word; the moments around the commit are dangerous."""

    def __init__(self, database, *, site, moments, **options):
        super().__init__(database, **options)
        self._ledger = site.ledger
        self._moments = moments

    def complete(self, claim, facts):
        self._moments.speak(Spot.COMMIT, claim)
        is_ours = super().complete(claim, facts)
        self._moments.answered()
        self._moments.reach(Spot.COMMITTED)
        if is_ours:
            self._ledger.note("end", job_id=claim.job_id, seq=claim.claim_seq, status="completed")
        else:
            self._ledger.note("refused", job_id=claim.job_id, seq=claim.claim_seq)
        self._moments.end()
        return is_ours

    def _settle(self, claim, decision, error=None):
        self._moments.speak(Spot.SETTLE, claim)
        settlement = super()._settle(claim, decision, error)
        self._moments.answered()
        if settlement is None:
            self._ledger.note("refused", job_id=claim.job_id, seq=claim.claim_seq)
        else:
            self._ledger.note(
                "end",
                job_id=claim.job_id,
                seq=claim.claim_seq,
                status=settlement.status,
                reason=settlement.reason,
            )
        self._moments.end()
        return settlement


class WatchedRecovery(RecoveryRepository):
    """Notes which claims were ended by others."""

    def __init__(self, database, *, site, **options):
        super().__init__(database, **options)
        self._ledger = site.ledger

    def _settle_crashed(self, connection, rows):
        self._seqs = {row["job_id"]: row["claim_seq"] for row in rows}
        return super()._settle_crashed(connection, rows)

    def reap(self, limit=50, **options):
        return self._noted(super().reap(limit, **options))

    def reap_worker(self, worker_id):
        return self._noted(super().reap_worker(worker_id))

    def _noted(self, settlements):
        for settled in settlements:
            seq = self._seqs[settled.job_id]
            self._ledger.note(
                "end",
                job_id=settled.job_id,
                seq=seq,
                status=settled.status,
                reason=settled.reason,
                by="reaper",
            )
        return settlements


@dataclass(frozen=True, kw_only=True)
class WatchedPlaces(Places):
    """The moment between two files is dangerous."""

    moments: Moments

    def put(self, claim, variant):
        self.moments.stored()
        return super().put(claim, variant)


class WatchedDispatch(DispatchRepository):
    """Notes why jobs are hinted at anew."""

    def __init__(self, database, *, site):
        super().__init__(database)
        self._ledger = site.ledger

    def note_epoch(self, transport, epoch):
        is_new = super().note_epoch(transport, epoch)
        if is_new:
            self._ledger.note("epoch", epoch=epoch)
        return is_new

    def put_back(self, job_ids):
        super().put_back(job_ids)
        self._ledger.note("anew", why="put back", count=len(job_ids))

    def forget_outlived(self):
        return self._noted("outlived", super().forget_outlived())

    def forget_lost(self, *, is_idle=True):
        return self._noted("lost, idle" if is_idle else "overtaken", super().forget_lost(is_idle=is_idle))

    def _noted(self, why, count):
        if count:
            self._ledger.note("anew", why=why, count=count)
        return count


class HastyWorkers(WorkerRepository):
    """A worker that says nothing counts as dead sooner."""

    def living(self, seconds=SEEN_SECONDS):
        return super().living(seconds)


def recovery(database, site, policy=POLICY):
    """What takes jobs from the dead."""
    return WatchedRecovery(database, site=site, policy=policy, purge_grace_seconds=site.plan.shape.grace)


def hasten(site: Site) -> Moments:
    """Shorten the patience of this process, before it builds anything."""
    moments = Moments(site)
    grace = {"purge_grace_seconds": site.plan.shape.grace}
    workers.RetryPolicy = lambda: POLICY
    workers.RecoveryRepository = partial(WatchedRecovery, site=site, **grace)
    workers.WorkerRepository = HastyWorkers
    for module in (application, workers):
        module.JobRepository = partial(WatchedJobs, site=site, moments=moments, policy=POLICY, **grace)
        module.ImageRepository = partial(ImageRepository, **grace)
        module.DispatchRepository = partial(WatchedDispatch, site=site)
        module.open_transport = partial(_watched_transport, site, bootstrap.open_transport)
    UnavailableError.retry_after_seconds = SNOOZE_SECONDS
    dispatch.SEEN_SECONDS, dispatch.LOST_SECONDS = SEEN_SECONDS, LOST_SECONDS
    presence.REPORT_SECONDS = REPORT_SECONDS
    outputs.REST_SECONDS = STEP_SECONDS
    sweeper.PURGE_LEASE_SECONDS = PURGE_SECONDS
    sweeper.ORPHAN_SECONDS = site.plan.shape.grace
    names_older_than = Stage.names_older_than
    Stage.names_older_than = lambda stage, seconds: names_older_than(stage, max(seconds, UPLOAD_SECONDS))
    return moments


def _watched_transport(site, open_transport, settings, **given):
    """The transport, with its hints counted."""
    transport = open_transport(settings, **given)
    publish = transport.publish

    def publish_and_note(job_id, priority):
        is_sent = publish(job_id, priority)
        site.ledger.note("hint", job_id=job_id, is_sent=is_sent)
        return is_sent

    transport.publish = publish_and_note
    return transport


def build_worker(site: Site, moments: Moments, settings, **given) -> WorkerParts:
    """What a worker process needs, with an engine that obeys the plan."""
    parts = bootstrap.build_worker(settings, **given)
    for name, step in (parts.sweeper._steps | parts.sweeper._slow_steps).items():
        if name != "prune":
            step.every_seconds = min(step.every_seconds, STEP_SECONDS)
    places = WatchedPlaces(**vars(parts.runner.places), moments=moments)
    return replace(
        parts,
        runner=replace(parts.runner, places=places),
        new_engine=lambda: ChaosEngine(site, moments, parts.new_engine()),
    )
