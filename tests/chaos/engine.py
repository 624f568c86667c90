"""The engine of a run: does what the picture says, dies and sleeps where its fate says so."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing

from chaos.meetings import Word
from chaos.pictures import tag_of
from chaos.plan import PATIENCE_LEASES, Fate, Kind, Spot, fate
from chaos.site import Site
from image_processor.engine.base import Engine, RenderedVariant, Rendering
from image_processor.errors import CorruptImageError, EngineCrashedError, EngineError
from image_processor.jobs.values import Claim
from image_processor.testing.fake_engine import FakeEngine

FILE_BYTES = 20_000
LOOK_SECONDS = 0.03
SLEEPS_BEFORE = {Kind.DONE_LATE: Spot.COMMIT, Kind.FAILED_LATE: Spot.SETTLE}
"""Where the first worker of such a picture falls asleep."""


class Moments:
    """The dangerous moments of the attempts of this process, each on the thread that makes the attempt."""

    def __init__(self, site: Site) -> None:
        self._ledger = site.ledger
        self._meetings = site.meetings
        self._patience = PATIENCE_LEASES * site.plan.shape.lease
        self._attempt = threading.local()

    def begin(self, tag: str, fate: Fate) -> None:
        """An attempt is being made, and this is to be its fate."""
        self._attempt.tag, self._attempt.fate, self._attempt.files = tag, fate, 0

    def end(self) -> None:
        """There is nothing more that could happen in this attempt."""
        self._attempt.fate = self._attempt.tag = None

    def answered(self) -> None:
        """It was told how the attempt ended, and there was an answer."""
        tag = getattr(self._attempt, "tag", None)
        if tag in [note["tag"] for note in self._meetings.busy(os.getpid())]:
            self._meetings.note(Word.SPOKEN, tag)

    def stored(self) -> None:
        """One more file is about to be stored."""
        self._attempt.files += 1
        if self._attempt.files == 2:
            self.reach(Spot.STORE)

    def reach(self, spot: Spot) -> None:
        """Die or fall asleep here, if that is to be; who sleeps is woken from outside."""
        fate = getattr(self._attempt, "fate", None)
        if fate is None:
            return
        if spot not in (fate.dies_at, fate.sleeps_at):
            return
        is_death = spot is fate.dies_at
        self._ledger.note("moment", tag=self._attempt.tag, spot=spot, is_death=is_death)
        self.die() if is_death else _meet(signal.SIGSTOP)

    def speak(self, spot: Spot, claim: Claim) -> None:
        """It is about to be told how the attempt ended: that is what others may have been waiting for."""
        self.reach(spot)
        tag = getattr(self._attempt, "tag", None)
        if tag is None:
            return
        kind = Kind(tag.split()[2])
        if SLEEPS_BEFORE.get(kind) is spot and not self._meetings.is_asleep(kind):
            self._sleep_once(tag, claim)
        if kind is Kind.UNWANTED and spot is Spot.COMMIT:
            self._meetings.note(Word.READY, tag)
            if self.wait_for(lambda: self._meetings.of(Word.CANCELLED, tag), time.sleep):
                self._ledger.note("unwanted", job_id=claim.job_id, seq=claim.claim_seq)

    def _sleep_once(self, tag: str, claim: Claim) -> None:
        if self._meetings.note_first(Word.ASLEEP, tag, job_id=claim.job_id, seq=claim.claim_seq):
            _meet(signal.SIGSTOP)

    def fails_first(self, tag: str, kind: Kind) -> bool:
        """Whether it is too early to succeed: somebody is to sleep over the picture before."""
        if kind not in SLEEPS_BEFORE or self._has_slept(tag):
            return False
        return kind is Kind.FAILED_LATE or self._meetings.is_asleep(kind)

    def _has_slept(self, tag: str) -> bool:
        return self._meetings.of(Word.ASLEEP, tag) is not None

    def let_speak(self, tag: str, wait: Callable[[float], object]) -> None:
        """Begin with the picture, and wait until whoever slept over it has spoken."""
        if self._has_slept(tag) and not self._meetings.of(Word.SPOKEN, tag):
            self._meetings.note(Word.BEGUN, tag)
            self.wait_for(lambda: self._meetings.of(Word.SPOKEN, tag), wait)

    def die(self) -> None:
        """Here and now, or once those in this process have spoken who are to be listened to."""
        self.wait_for(lambda: not self._meetings.busy(os.getpid()), time.sleep)
        _meet(signal.SIGKILL)

    def wait_for(self, is_so: Callable[[], object], wait: Callable[[float], object]) -> bool:
        """Whether it came to be so before the patience was at its end, or `wait` said that it is in vain."""
        ends_at = time.monotonic() + self._patience
        while not (was_so := bool(is_so())) and time.monotonic() < ends_at and not wait(LOOK_SECONDS):
            pass
        return was_so


def _meet(number: signal.Signals) -> None:
    """A signal to this very thread, which goes no step further; one to the process would come later."""
    signal.pthread_kill(threading.get_ident(), number)


class ChaosEngine(FakeEngine):
    """A fake engine for most pictures; the codec for those that ask for it."""

    def __init__(self, site: Site, moments: Moments, codec: Engine) -> None:
        super().__init__()
        self._site = site
        self._moments = moments
        self._codec = codec
        self._interrupted = threading.Event()

    def render(self, request, *, deadline_seconds, on_progress=None):
        self._interrupted.clear()
        tag = tag_of(request.source.read_bytes())
        kind = Kind(tag.split()[2])
        mine = self._fate(tag)
        if kind is Kind.REAL:
            return self._codec.render(request, deadline_seconds=deadline_seconds, on_progress=on_progress)
        self._moments.let_speak(tag, self._interrupted.wait)
        if self._interrupted.wait(mine.seconds):
            raise EngineCrashedError("The process that decodes died: it was interrupted.")
        self._suffer(kind, mine, tag)
        rendering = super().render(request, deadline_seconds=deadline_seconds, on_progress=on_progress)
        return _made_own(rendering, tag)

    def _fate(self, tag: str) -> Fate:
        ordinal = self._site.renders.next(tag.replace(" ", "-"))
        mine = fate(self._site.seed, tag, ordinal, self._site.plan.shape.lease)
        self._site.ledger.note("render", tag=tag, ordinal=ordinal)
        self._moments.begin(tag, mine)
        return mine

    def _suffer(self, kind: Kind, mine: Fate, tag: str) -> None:
        if kind is Kind.POISON:
            self._moments.die()
        if kind is Kind.CORRUPT:
            raise CorruptImageError("The plan has this image damaged.")
        if kind is Kind.STUBBORN or mine.fails or self._moments.fails_first(tag, kind):
            raise EngineError("The plan has this attempt fail.")

    def interrupt(self):
        self._interrupted.set()
        self._codec.interrupt()

    def close(self):
        with closing(self._codec):
            super().close()


def _made_own(rendering: Rendering, tag: str) -> Rendering:
    """The same files with bytes that no other picture gives."""
    variants = tuple(_own(variant, tag) for variant in rendering.variants)
    return rendering.model_copy(update={"variants": variants})


def _own(variant: RenderedVariant, tag: str) -> RenderedVariant:
    content = f"{tag} {variant.name}\n".encode() * (FILE_BYTES // 40)
    variant.path.write_bytes(content)
    return variant.model_copy(
        update={"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    )
