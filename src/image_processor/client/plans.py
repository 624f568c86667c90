"""Plans: what a client does, as generators that yield each step to whoever performs it."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from image_processor.client.bodies import Body

Value = TypeVar("Value")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body = b""
    silence_seconds: float | None = None
    """How long the service may say nothing; None: as long as the client's timeout says."""
    ends_at: float | None = None
    """On the monotonic clock: when its answer has to be complete."""
    accepted: tuple[int, ...] = ()
    """Statuses, beside success, whose body is an answer."""


@dataclass(frozen=True, eq=False)
class Reply:
    """The head of an answer; its body is still to be read."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    pieces: Any = None
    """The performer's."""
    response: Any = None
    """The performer's."""
    ends_at: float | None = None
    """The request's."""


@dataclass(frozen=True)
class Open:
    """Send a request; gives the Reply. Raises UnreachableError."""

    request: Request


@dataclass(frozen=True)
class Read:
    """Some bytes of a reply's body, as they came; none at its end. Raises UnreachableError."""

    reply: Reply


@dataclass(frozen=True)
class Close:
    """Be done with a reply."""

    reply: Reply


@dataclass(frozen=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True)
class Run:
    """Call what may take its time: it reads or writes a file, or asks for a token. Gives what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Give:
    """Hand one of several values to whoever iterates."""

    value: Any


Step = Open | Read | Close | Pause | Run | Give
Plan = Generator[Step, Any, Value]


@dataclass(frozen=True)
class Series(Generic[Item]):
    """A plan that gives several values, and has none at its end."""

    plan: Plan[None]


class Course(Generic[Value]):
    """A plan on its way: its present step, and its value at the end."""

    value: Value

    def __init__(self, plan: Plan[Value]) -> None:
        self._plan = plan
        self.step: Step | None = None
        """None when the plan is done."""
        self._move(partial(next, plan))

    @contextmanager
    def performing(self) -> Iterator[Callable[[object], None]]:
        """
        Where the present step is performed: hand what it gives to what this yields, and the plan goes on.

        What is raised is raised in the plan; it comes back from there where the plan has no answer to it.
        """
        given: list[object] = []
        try:
            yield given.append
        except Exception as error:  # noqa: BLE001 - the plan knows what it has an answer to
            self._move(partial(self._plan.throw, error))
        else:
            self._move(partial(self._plan.send, given[0]))

    def close(self) -> None:
        """Give the plan up, wherever it is."""
        self._plan.close()

    def _move(self, onward: Callable[[], Step]) -> None:
        try:
            self.step = onward()
        except StopIteration as end:
            self.step, self.value = None, end.value
