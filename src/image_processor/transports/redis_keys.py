"""What lies in Redis: the names of the keys, the form of an entry, the scripts. It makes no connection."""

import re
from dataclasses import dataclass
from functools import cached_property

MAX_TOKENS = 100
"""How many wake tokens are kept: more than anybody waits with. They mean nothing once the lists are empty."""
ENTRY = re.compile(rb"1:([012]):([\x21-\x7e]{1,200})")
LOW = 2

TAKE = """
for i = 1, 3 do
  local entry = redis.call('LMOVE', KEYS[i], KEYS[5], 'RIGHT', 'LEFT')
  if entry then
    redis.call('SADD', KEYS[6], ARGV[1])
    return entry
  end
end
redis.call('DEL', KEYS[4])
return false
"""
"""
Moves the best entry into the list of what the worker has in progress, and gives it.

With nothing to take no token means anything, and each publish adds one: who looks, then waits, misses none.
"""

PUT_BACK = f"""
local kept, moved = {{}}, 0
for i = 2, #ARGV do kept[ARGV[i]] = (kept[ARGV[i]] or 0) + 1 end
for _, entry in ipairs(redis.call('LRANGE', KEYS[5], 0, -1)) do
  if (kept[entry] or 0) > 0 then
    kept[entry] = kept[entry] - 1
  else
    redis.call('LREM', KEYS[5], 1, entry)
    local priority = string.match(entry, '^1:([012]):')
    if priority then
      redis.call('RPUSH', KEYS[1 + priority], entry)
      redis.call('LPUSH', KEYS[4], '1')
      moved = moved + 1
    end
  end
end
redis.call('LTRIM', KEYS[4], 0, {MAX_TOKENS - 1})
if redis.call('EXISTS', KEYS[5]) == 0 then redis.call('SREM', KEYS[6], ARGV[1]) end
return moved
"""
"""
Puts what a worker has in progress, but for what it is known to hold, where it is taken next; gives how many.

The newest comes first out of the worker's list, so that the oldest ends up first to be taken again.
"""


@dataclass(frozen=True)
class Keys:
    """The keys of one namespace; the braces keep them together on one node of a cluster."""

    namespace: str

    def _key(self, name: str) -> str:
        return f"{{{self.namespace}}}:{name}"

    @cached_property
    def queues(self) -> tuple[str, str, str]:
        """Lists of entries by priority, 0 high to 2 low; they grow on the left, and give from the right."""
        return self._key("high"), self._key("normal"), self._key("low")

    @cached_property
    def wake(self) -> str:
        """A list of tokens for whoever waits."""
        return self._key("wake")

    @cached_property
    def workers(self) -> str:
        """A set of the workers that have something in progress."""
        return self._key("workers")

    @cached_property
    def epoch(self) -> str:
        """A name that the broker keeps until it forgets everything."""
        return self._key("epoch")

    def in_progress(self, worker_id: str) -> str:
        """A list of the entries that a worker took and has not acknowledged, the newest first."""
        return self._key(f"inprog:{worker_id}")

    def wake_of(self, worker_id: str) -> str:
        """A list of tokens for the receivers of one worker, so that it can end."""
        return self._key(f"wake:{worker_id}")

    def of_scripts(self, worker_id: str) -> tuple[str, ...]:
        """The keys that both scripts take, in their order."""
        return *self.queues, self.wake, self.in_progress(worker_id), self.workers


def entry_of(job_id: str, priority: int) -> tuple[int, bytes]:
    """The priority, brought into its range, and what is put into its list."""
    level = min(max(priority, 0), LOW)
    return level, f"1:{level}:{job_id}".encode()


def job_id_of(entry: bytes) -> str | None:
    """The job that an entry names; None for one that another version, or somebody else, has put there."""
    match = ENTRY.fullmatch(entry)
    return match[2].decode() if match else None
