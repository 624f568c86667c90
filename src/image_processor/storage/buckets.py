"""Which buckets jobs may name. How one is reached is for others to say: nothing of S3 is loaded here."""

import threading
from collections.abc import Callable, Collection

from image_processor.errors import ConfigurationError, InvalidRequestError
from image_processor.storage.base import Storage
from image_processor.storage.keys import check_bucket


class Buckets:
    """
    The storages of the buckets that jobs may name in `s3://` URIs; each is made once.

    `own` are the service's: they are never given, as jobs could read and replace other users' images there.
    Raises ConfigurationError where `allowed` names one of them, or what is no bucket's name.
    """

    def __init__(self, allowed: Collection[str], own: Collection[str], new: Callable[[str], Storage]) -> None:
        for name in allowed:
            _check_allowed(name, own)
        self._allowed = frozenset(allowed)
        self._new = new
        self._made: dict[str, Storage] = {}
        self._turn = threading.Lock()

    def __call__(self, name: str) -> Storage:
        """The storage of a bucket; raises InvalidRequestError for one that is not set free."""
        if not self._allowed:
            raise InvalidRequestError(
                "S3 is not set up for jobs here: no buckets are set free (S3_JOB_BUCKETS)."
            )
        if name not in self._allowed:
            raise InvalidRequestError("This bucket is not one that is set free for jobs (S3_JOB_BUCKETS).")
        with self._turn:
            if name not in self._made:
                self._made[name] = self._new(name)
            return self._made[name]


def _check_allowed(name: str, own: Collection[str]) -> None:
    try:
        check_bucket(name)
    except InvalidRequestError as error:
        raise ConfigurationError(f"S3_JOB_BUCKETS: {error}") from error
    if name in own:
        raise ConfigurationError(
            f"S3_JOB_BUCKETS names {name}: jobs could read and replace what the service keeps there."
        )
