"""What a run was like, in numbers."""

from collections import Counter
from typing import Any

from chaos.evidence import Evidence
from chaos.invariants import hints_anew, hints_by_job, repeats_by_job, waits, waits_hinted_at
from chaos.run import Run


def figures(run: Run, evidence: Evidence) -> dict[str, Any]:
    """All that is to be told of a run that was survived."""
    hints = hints_by_job(evidence)
    per_job = [hints[job_id] for job_id in evidence.jobs] or [0]
    ledger = evidence.site.ledger
    return {
        "seed": evidence.site.seed,
        "uploads": len(evidence.site.plan.jobs),
        "jobs": len(evidence.jobs),
        "ends": dict(Counter(job["reason"] or job["status"] for job in evidence.jobs.values())),
        "claims": sum(job["claim_seq"] for job in evidence.jobs.values()),
        "renders": len(ledger.lines("render")),
        "commits and settlements refused": len(ledger.lines("refused")),
        "zombies that met the next claim": dict(
            Counter(line["tag"].split()[2] for line in ledger.lines("meeting"))
        ),
        "commits after a cancel": len(ledger.lines("unwanted")),
        "lives": sum(len(evidence.lives(job_id)) for job_id in evidence.jobs),
        "waits": sum(waits(evidence, job_id) for job_id in evidence.jobs),
        "hints per job": f"{sum(per_job) / len(per_job):.2f} mean, {max(per_job)} most",
        "hints anew": dict(hints_anew(evidence)),
        "waits between claims, and hinted at": [
            len(waits_hinted_at(evidence)),
            sum(waits_hinted_at(evidence)),
        ],
        "repeats": sum(repeats_by_job(evidence).values()),
        "deaths at a dangerous moment": sum(line["is_death"] for line in ledger.lines("moment")),
        "sleeps at a dangerous moment": sum(not line["is_death"] for line in ledger.lines("moment")),
        **{str(what): count for what, count in sorted(run.counts.items())},
        "seconds": round(run.site.seconds(), 1),
        "seconds to rest": round(run.settled_in, 1),
    }
