"""What a submission's answer tells in its headers: the quota of the user, and whether it was there before."""

from image_processor.jobs.values import Quota, Receipt


def receipt_headers(receipt: Receipt) -> dict[str, str]:
    """The quota's headers, and `Idempotent-Replayed` where the key had been answered before."""
    replayed = {"Idempotent-Replayed": "true"} if receipt.replayed else {}
    return quota_headers(receipt.quota) | replayed


def quota_headers(quota: Quota | None) -> dict[str, str]:
    """`X-RateLimit-Limit`, `-Remaining` and `-Reset` (ISO 8601, UTC); nothing where there is no limit."""
    if quota is None:
        return {}
    return limit_headers(quota.limit, quota.remaining, quota.reset_at)


def limit_headers(limit: int, remaining: int, reset_at: str) -> dict[str, str]:
    """The three headers from their values."""
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": reset_at.replace(".000Z", "Z"),  # windows begin at whole seconds
    }
