"""Uploads per user and window, counted in the database."""

import math
from dataclasses import dataclass

from sqlalchemy import Connection

from image_processor.errors import RateLimitError
from image_processor.jobs.clock import read_clock, statement, to_iso
from image_processor.jobs.database import Database
from image_processor.jobs.values import Quota, RateLimit

TAKE = statement("""
insert into upload_rate_limits (user_id, window_start, upload_count) values (:user_id, :window_start, 1)
on conflict (user_id, window_start) do update set upload_count = upload_rate_limits.upload_count + 1
  where upload_rate_limits.upload_count < :max_uploads
returning upload_count
""")
COUNT = statement("""
select upload_count from upload_rate_limits where user_id = :user_id and window_start = :window_start
""")
PRUNE = statement("delete from upload_rate_limits where window_start < :before")


class RateLimitRepository:
    """What is left to a user, without taking any of it; `JobRepository.submit` takes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def quota(self, user_id: str, rate_limit: RateLimit) -> Quota | None:
        """What is left to the user in this window; None where there is no limit."""
        with self._database.read() as connection:
            return read(connection, user_id, rate_limit)

    def check(self, user_id: str, rate_limit: RateLimit) -> Quota | None:
        """The quota, or RateLimitError where nothing is left: to be asked before a body is read."""
        quota = self.quota(user_id, rate_limit)
        if quota is not None and quota.remaining == 0:
            raise _refusal(quota)
        return quota

    def use(self, user_id: str, rate_limit: RateLimit) -> Quota | None:
        """Take one upload of this window for what is none; RateLimitError where nothing is left."""
        with self._database.write() as connection:
            return take(connection, user_id, rate_limit)

    def prune(self, older_than_seconds: float) -> int:
        """Forget the windows that began longer ago than that; gives how many."""
        with self._database.write() as connection:
            before = to_iso(read_clock(connection) - older_than_seconds)
            return connection.execute(PRUNE, {"before": before}).rowcount


@dataclass(frozen=True)
class _Window:
    rate_limit: RateLimit
    now: float
    start: float

    def parameters(self, user_id: str) -> dict[str, str | int]:
        max_uploads = self.rate_limit.max_uploads
        return {"user_id": user_id, "window_start": to_iso(self.start), "max_uploads": max_uploads}

    def quota(self, used: int) -> Quota:
        end = self.start + self.rate_limit.window_seconds
        return Quota(
            limit=self.rate_limit.max_uploads,
            remaining=max(0, self.rate_limit.max_uploads - used),
            reset_at=to_iso(end),
            reset_in_seconds=max(1, math.ceil(end - self.now)),
        )


def take(connection: Connection, user_id: str, rate_limit: RateLimit) -> Quota | None:
    """Use one upload of this window; None where there is no limit, RateLimitError where none is left."""
    if rate_limit.max_uploads == 0:
        return None
    window = _window(connection, rate_limit)
    used = connection.execute(TAKE, window.parameters(user_id)).scalar_one_or_none()
    if used is None:
        raise _refusal(window.quota(rate_limit.max_uploads))
    return window.quota(used)


def read(connection: Connection, user_id: str, rate_limit: RateLimit) -> Quota | None:
    """What is left in this window; None where there is no limit."""
    if rate_limit.max_uploads == 0:
        return None
    window = _window(connection, rate_limit)
    used = connection.execute(COUNT, window.parameters(user_id)).scalar_one_or_none()
    return window.quota(used or 0)


def _window(connection: Connection, rate_limit: RateLimit) -> _Window:
    now = read_clock(connection)
    return _Window(rate_limit, now, start=now // rate_limit.window_seconds * rate_limit.window_seconds)


def _refusal(quota: Quota) -> RateLimitError:
    return RateLimitError(
        f"All {quota.limit} uploads of this window are used; the next window begins at {quota.reset_at}.",
        retry_after_seconds=quota.reset_in_seconds,
        limit=quota.limit,
        remaining=0,
        reset_at=quota.reset_at,
    )
