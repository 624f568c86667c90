"""The states of a job and the transitions between them, as data. The SQL that makes them: `transitions`."""

from enum import StrEnum


class Status(StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"
    """Accepted, and waiting for a worker."""
    PROCESSING = "processing"
    """A worker holds the claim; its lease says that it is alive."""
    RETRYING = "retrying"
    """An attempt ended without a result; the next one waits for its time."""
    COMPLETED = "completed"
    """All variants are stored."""
    FAILED = "failed"
    """There is no result and nobody is working on one; the reason says why."""


class Reason(StrEnum):
    """Why a job failed."""

    EXHAUSTED = "exhausted"
    """Every attempt failed."""
    POISON = "poison"
    """It killed the process that worked on it too often."""
    REJECTED = "rejected"
    """The input is refused and would be refused again."""
    EXPIRED = "expired"
    """It did not start within its time to live."""
    CANCELLED = "cancelled"
    """Somebody asked for its end."""


LIVE = frozenset({Status.PENDING, Status.PROCESSING, Status.RETRYING})
"""The states of a job that will go on."""

REPLAYABLE = frozenset({Reason.EXHAUSTED, Reason.POISON, Reason.EXPIRED})
"""
The reasons after which a job may be started anew: the dead letters.

Not after a rejection: it would end the same way, and the refused original is not kept. But a job whose
original is fetched may be: another one may be found at its address by then.
"""

TRANSITIONS = frozenset(
    {
        (Status.PENDING, Status.PROCESSING),  # claimed
        (Status.RETRYING, Status.PROCESSING),  # claimed
        (Status.PROCESSING, Status.COMPLETED),
        (Status.PROCESSING, Status.RETRYING),  # failed, snoozed or crashed
        (Status.PROCESSING, Status.FAILED),
        (Status.PROCESSING, Status.PENDING),  # released
        (Status.PENDING, Status.FAILED),  # expired or cancelled
        (Status.RETRYING, Status.FAILED),  # expired or cancelled
        (Status.FAILED, Status.PENDING),  # replayed
    }
)
"""Every change of status that the database lets through; a trigger refuses all others."""
