"""Named events. The code says what happened with `emit`; logs (and later metrics) subscribe."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

AUDIT = "audit."
"""How names of the audit's events begin: it has a logger of its own, and its lines are always JSON."""
AUDIT_LOGGER = "image_processor.audit"

Subscriber = Callable[[str, dict[str, Any]], None]
_subscribers: list[Subscriber] = []


def emit(event: str, **fields: Any) -> None:
    """Tell every subscriber that `event` (dotted, such as `job.completed`) happened."""
    for subscriber in tuple(_subscribers):
        subscriber(event, fields)


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber` with every event from now on; the returned function ends that."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


def log_events(*, json: bool, level: int = logging.INFO) -> Callable[[], None]:
    """
    Write every event as one line on standard error: JSON for machines, or aligned for people.

    Lines of the audit are JSON whatever the others are, and name their logger.
    The returned function ends that.
    """
    import structlog  # noqa: PLC0415 - slow to load, and most commands write no log

    as_json = structlog.processors.JSONRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, as_json if json else structlog.dev.ConsoleRenderer(colors=False)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    log = structlog.get_logger()
    audit = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[*shared, as_json],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind(logger=AUDIT_LOGGER)
    warnings = {"failed", "lost", "crashed", "warning", "refused", "retried", "died"}

    def write(event: str, fields: dict[str, Any]) -> None:
        logger = audit if event.startswith(AUDIT) else log
        method = logger.warning if event.rpartition(".")[2] in warnings else logger.info
        # A log that cannot be written, to a full disk or a closed pipe, must not stop the work.
        with suppress(OSError):
            method(event, **fields)

    return subscribe(write)
