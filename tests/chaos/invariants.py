"""What must hold after a run, whatever happened in it; each gives sentences that say where it does not."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise

from chaos.client import THREADS
from chaos.evidence import LIVE, Evidence, Row
from chaos.plan import Kind, What
from image_processor.jobs.retry import RetryPolicy
from image_processor.jobs.states import TRANSITIONS

TERMINAL = ("completed", "failed")
MAX_CRASHES = RetryPolicy().max_crashes
GIVEN_UP_HINTS = 6
"""Of one job, which died with a worker or a sweeper: each is given up at twice the age of the last."""
HINTED_SHARE = 0.7
"""Of the waits between two claims; the others end by a hint of an earlier one, or by a direct claim."""


def all_come_to_rest(evidence: Evidence) -> Iterator[str]:
    """I1."""
    for job_id, job in evidence.jobs.items():
        if job["status"] in LIVE:
            yield f"job {job_id} is {job['status']}"


def one_end_a_life(evidence: Evidence) -> Iterator[str]:
    """I2."""
    for job_id in evidence.jobs:
        for number, life in enumerate(evidence.lives(job_id)):
            ends = [event["new"] for event in life if event["new"] in TERMINAL]
            if len(ends) != 1 or life[-1]["new"] not in TERMINAL:
                yield f"life {number} of job {job_id} ends so: {ends}"


def what_is_completed_is_there(evidence: Evidence) -> Iterator[str]:
    """I3."""
    for job_id, job in evidence.jobs.items():
        image = evidence.images[job["image_id"]]
        if job["status"] == "completed" and not image["variants"]:
            yield f"job {job_id} is completed and its image has no variants"
    for key, variant in evidence.promised_files().items():
        if key not in evidence.files:
            yield f"{key} is not there"
        elif evidence.hash_of(key) != variant["sha256"]:
            yield f"{key} has other bytes than its row says"


def nothing_else_is_there(evidence: Evidence) -> Iterator[str]:
    """I4, and the half of I8 that has to do with files."""
    for file in evidence.files - set(evidence.promised_files()):
        yield f"{file} is in the storage, and no row points to it"
    for name in evidence.staged - evidence.needed_originals():
        yield f"{name} is staged, and nobody needs it"
    for name in evidence.needed_originals() - evidence.staged:
        yield f"{name} is not staged, and a dead letter needs it"
    for name in evidence.scratch:
        yield f"{name} was left in the scratch folder"


def attempts_are_counted(evidence: Evidence) -> Iterator[str]:
    """I5."""
    for job_id, job in evidence.jobs.items():
        most = max(event["attempt"] for event in evidence.changes(job_id))
        if most > job["max_retries"] + 1:
            yield f"job {job_id} had attempt {most}"
        if job["attempt_count"] < 0:
            yield f"job {job_id} has {job['attempt_count']} attempts"


def crashes_are_counted(evidence: Evidence) -> Iterator[str]:
    """I6."""
    poison = {answer["job_id"] for answer in _submits(evidence) if _kind(evidence, answer) is Kind.POISON}
    for job_id, job in evidence.jobs.items():
        if job["crash_count"] > MAX_CRASHES or (
            job["reason"] == "poison" and job["crash_count"] != MAX_CRASHES
        ):
            yield f"job {job_id} is {job['status']}/{job['reason']} with {job['crash_count']} crashes"
        if job_id in poison and (job["status"], job["reason"]) != ("failed", "poison"):
            yield f"poison job {job_id} is {job['status']}/{job['reason']}"


def the_trail_is_gapless(evidence: Evidence) -> Iterator[str]:
    """I7."""
    legal = {(str(old), str(new)) for old, new in TRANSITIONS}
    for job_id, job in evidence.jobs.items():
        changes = evidence.changes(job_id)
        if changes[0]["event_type"] != "upload_initiated" or changes[0]["new"] != "pending":
            yield f"the trail of job {job_id} begins with {changes[0]}"
        for before, after in pairwise(changes):
            if after["old"] != before["new"]:
                yield f"the trail of job {job_id} jumps from {before['new']} to {after['old']}"
            if (after["old"], after["new"]) not in legal:
                yield f"job {job_id} went from {after['old']} to {after['new']}"
        if changes[-1]["new"] != job["status"]:
            yield f"job {job_id} is {job['status']}, and its trail ends with {changes[-1]['new']}"
        seqs = [event["claim_seq"] for event in changes if event["event_type"] == "processing_started"]
        if seqs != list(range(1, job["claim_seq"] + 1)):
            yield f"the claims of job {job_id} are {seqs}, and its row says {job['claim_seq']}"


def a_claim_ends_once(evidence: Evidence) -> Iterator[str]:
    """The fence: what was told to a worker, or to a reaper, about a claim is what became of that claim."""
    told = defaultdict(list)
    for line in evidence.site.ledger.lines("end"):
        told[line["job_id"], line["seq"]].append(line["status"])
    for (job_id, seq), ends in told.items():
        if job_id not in evidence.jobs:
            yield f"claim {seq} of job {job_id} ended, and there is no such job"
            continue
        if len(ends) > 1:
            yield f"claim {seq} of job {job_id} ended more than once: {ends}"
        became = [
            event["new"]
            for event in evidence.changes(job_id)
            if event["old" if "old" in event else "new"] == "processing" and event["claim_seq"] == seq
        ]
        if became != ends[:1]:
            yield f"claim {seq} of job {job_id} was told to be {ends}, and became {became}"


def zombies_are_refused(evidence: Evidence) -> Iterator[str]:
    """Who woke while the next claim of its job ran was told that the job is not its own; and some did."""
    refused = {(line["job_id"], line["seq"]) for line in evidence.site.ledger.lines("refused")}
    told = {(line["job_id"], line["seq"]) for line in evidence.site.ledger.lines("end") if "by" not in line}
    meetings = evidence.site.ledger.lines("meeting")
    for line in meetings:
        if (line["job_id"], line["seq"]) in told:
            yield f"claim {line['seq']} of job {line['job_id']} was over, and was believed all the same"
    if not any((line["job_id"], line["seq"]) in refused | told for line in meetings):
        yield "nothing is proved: no zombie met the next claim of its job"


def cancels_win(evidence: Evidence) -> Iterator[str]:
    """Who came to commit after a cancel had been answered was refused; and some did come."""
    late = evidence.site.ledger.lines("unwanted")
    for line in late:
        job = evidence.jobs[line["job_id"]]
        if job["status"] == "completed":
            yield f"job {job['job_id']} was cancelled, and completed after that"
    if not late:
        yield "nothing is proved: nobody came to commit after a cancel"


def promises_are_kept(evidence: Evidence) -> Iterator[str]:
    """Every answer that the user got is true for ever."""
    answered = defaultdict(set)
    for answer in _submits(evidence):
        answered[answer["number"]].add(answer["job_id"])
    for number, job_ids in answered.items():
        if len(job_ids) != 1:
            yield f"upload {number} was answered with different jobs: {job_ids}"
    everything = set().union(*answered.values())
    if everything != set(evidence.jobs):
        yield f"answered and without a row: {everything - set(evidence.jobs)}"
        yield f"with a row and never answered: {set(evidence.jobs) - everything}"
    if set(answered) != {job.number for job in evidence.site.plan.jobs}:
        yield f"{len(answered)} uploads were answered"
    for answer in _answers(evidence):
        if "unforeseen" in answer:
            yield f"the user was told: {answer}"


def wishes_are_granted(evidence: Evidence) -> Iterator[str]:
    """Who was told that a job is cancelled, or an image deleted, can rely on it."""
    for answer in _answers(evidence, What.CANCEL):
        job = evidence.jobs.get(answer.get("job_id"))
        if job and (job["status"], job["reason"]) != ("failed", "cancelled"):
            yield f"job {job['job_id']} was cancelled, and is {job['status']}/{job['reason']}"
    for answer in _answers(evidence, What.DELETE):
        image = evidence.images.get(answer.get("image_id"))
        if image and not image["deleted_at"]:
            yield f"image {image['image_id']} was deleted, and is not"


ENDS = {
    Kind.PLAIN: {"completed", "cancelled", "exhausted", "poison"},
    Kind.REAL: {"completed", "cancelled", "exhausted", "poison"},
    Kind.POISON: {"poison"},
    Kind.STUBBORN: {"exhausted", "poison"},
    Kind.CORRUPT: {"rejected", "exhausted", "poison"},
    Kind.DONE_LATE: {"completed", "exhausted", "poison"},
    Kind.FAILED_LATE: {"completed", "exhausted", "poison"},
    Kind.UNWANTED: {"cancelled", "completed", "exhausted", "poison"},
}
"""What may become of each kind; poison and exhausted by bad luck, with processes that were killed."""
COMPLETED_SHARE = 0.7
"""Of the plain ones that nobody cancelled."""


def ends_make_sense(evidence: Evidence) -> Iterator[str]:
    """Faults of ours are not charged to the jobs, but for the attempts that they cost."""
    unlucky, lucky = [], 0
    for answer in _submits(evidence):
        job = evidence.jobs.get(answer["job_id"])
        if job is None:
            continue
        end = job["reason"] or job["status"]
        kind = _kind(evidence, answer)
        if end not in ENDS[kind]:
            yield f"the {kind} job {job['job_id']} ended as {end}: {job['last_error']}"
        if kind in (Kind.PLAIN, Kind.REAL) and end != "cancelled":
            lucky += end == "completed"
            unlucky += [job["job_id"]] * (end != "completed")
    if lucky < COMPLETED_SHARE * (lucky + len(unlucky)):
        yield f"of the plain jobs {lucky} completed and {len(unlucky)} did not"


def hints_are_few(evidence: Evidence) -> Iterator[str]:
    """
    I8: one for each time that a job begins to wait, for each that the broker may have lost, for each repeat.

    Whoever begins to wait is marked as not hinted at, and so is, once for each life of the broker, whoever
    waits; a mark is taken off for one hint. An upload that the user repeats is hinted at, whatever became of
    the hint before. There is nothing else that hints.
    """
    hints, anew, repeats = hints_by_job(evidence), hints_anew(evidence), repeats_by_job(evidence)
    deaths = deaths_of_user(evidence)
    waited = {job_id: waits(evidence, job_id) for job_id in evidence.jobs}
    for job_id, due in waited.items():
        most = due + repeats[job_id] + deaths + anew["epochs"] + GIVEN_UP_HINTS
        if hints[job_id] > most:
            yield f"job {job_id} waited {due} times, and was hinted at {hints[job_id]} times"
    due = sum(waited.values()) + repeats.total() + deaths * THREADS + anew.total() - anew["epochs"]
    if hints.total() > due:
        yield f"{hints.total()} hints were sent, and {due} were due"
    losses = broker_losses(evidence)
    if anew["epochs"] > 2 * losses:
        yield f"the broker lost its hints {losses} times, and was seen to begin anew {anew['epochs']} times"


def who_waits_again_is_hinted_at(evidence: Evidence) -> Iterator[str]:
    """It is not left to those who look for lost hints, and to workers that hear nothing."""
    told = waits_hinted_at(evidence)
    if evidence.has_broker and sum(told) < HINTED_SHARE * len(told):
        yield f"of {len(told)} waits between two claims of a job {sum(told)} saw a hint"


def waits_hinted_at(evidence: Evidence) -> list[bool]:
    """Of each wait between two claims, whether it saw a hint."""
    hinted = defaultdict(list)
    for line in evidence.site.ledger.lines("hint"):
        hinted[line["job_id"]].append(line["time"])
    return [
        any(begins <= at <= ends for at in hinted[job_id]) for job_id, begins, ends in _second_waits(evidence)
    ]


def _second_waits(evidence: Evidence) -> Iterator[tuple[str, float, float]]:
    """Job, beginning and end of each wait between two claims."""
    for job_id in evidence.jobs:
        for before, after in pairwise(evidence.changes(job_id)):
            if before["new"] == "retrying" and after["new"] == "processing":
                yield job_id, _instant(before), _instant(after)


def _instant(event: Row) -> float:
    return datetime.fromisoformat(event["created_at"]).timestamp()


def waits(evidence: Evidence, job_id: str) -> int:
    """How often the job began to wait."""
    return sum(event["new"] in ("pending", "retrying") for event in evidence.changes(job_id))


def hints_by_job(evidence: Evidence) -> Counter[str]:
    """How many hints of each job the broker took."""
    return Counter(line["job_id"] for line in evidence.site.ledger.lines("hint") if line["is_sent"])


def hints_anew(evidence: Evidence) -> Counter[str]:
    """How many jobs were to be hinted at again, by reason; `epochs` is how often the broker began anew."""
    counts = Counter(epochs=len(evidence.site.ledger.lines("epoch")))
    for line in evidence.site.ledger.lines("anew"):
        counts[line["why"]] += line["count"]
    return counts


def repeats_by_job(evidence: Evidence) -> Counter[str]:
    """How often the user was told that the same upload had been answered before."""
    return Counter(answer["job_id"] for answer in _submits(evidence) if answer["replayed"])


def deaths_of_user(evidence: Evidence) -> int:
    """Each with a few answers, of which nobody knows any more."""
    dead = evidence.site.ledger.lines("dead")
    return sum(line["name"] == "client-0" and line["status"] != 0 for line in dead)


def broker_losses(evidence: Evidence) -> int:
    """How often the broker forgot what it had."""
    return sum("broker" in line["fault"] for line in evidence.site.ledger.lines("fault"))


def nobody_fell_over(evidence: Evidence) -> Iterator[str]:
    """No thread of a worker died, and nothing happened that is not foreseen."""
    yield from evidence.log_lines("thread.died", "nforeseen", "Traceback", "refused a statement")
    for line in evidence.log_lines("sweeper."):
        if ".failed" in line and "Error:" in line and "UnavailableError" not in line:
            yield line


def _answers(evidence: Evidence, what: What | None = None) -> list[dict]:
    lines = evidence.site.ledger.lines("answer")
    return [line for line in lines if what in (None, line["action"])]


def _submits(evidence: Evidence) -> list[dict]:
    return [answer for answer in _answers(evidence, What.SUBMIT) if "job_id" in answer]


def _kind(evidence: Evidence, answer: dict) -> Kind:
    return evidence.site.plan.jobs[answer["number"]].kind


INVARIANTS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    all_come_to_rest,
    one_end_a_life,
    what_is_completed_is_there,
    nothing_else_is_there,
    attempts_are_counted,
    crashes_are_counted,
    the_trail_is_gapless,
    a_claim_ends_once,
    zombies_are_refused,
    cancels_win,
    promises_are_kept,
    wishes_are_granted,
    ends_make_sense,
    hints_are_few,
    who_waits_again_is_hinted_at,
    nobody_fell_over,
)


def violations(evidence: Evidence) -> list[str]:
    """Everything that does not hold, each with the name of what says that it must."""
    return [f"{holds.__name__}: {sentence}" for holds in INVARIANTS for sentence in holds(evidence)]
