"""The quota of a user as the headers that clients know."""

from image_processor.jobs.values import Quota


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
