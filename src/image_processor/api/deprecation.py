"""What of the HTTP interface is on its way out, and how callers are told. The policy is in the documents."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_processor.errors import ConfigurationError
from image_processor.telemetry import emit

LEAST_NOTICE = timedelta(days=180)
"""From the day on which callers are told to the day on which it may be gone."""


@dataclass(frozen=True, kw_only=True)
class Deprecation:
    """Of one operation. Raises ConfigurationError where the notice is shorter than was promised."""

    since: date
    sunset: date
    """The first day on which it may be gone."""
    successor: str
    """The address, or the template of it, of what takes its place."""
    policy: str = ""
    """Where people read why, and what to do; an address."""

    def __post_init__(self) -> None:
        if self.sunset - self.since < LEAST_NOTICE:
            raise ConfigurationError(f"What is deprecated stays for at least {LEAST_NOTICE.days} days.")

    def headers(self) -> dict[str, str]:
        """`Deprecation` (RFC 9745), `Sunset` (RFC 8594), and links to what there is to know."""
        links = {"successor-version": self.successor, "deprecation": self.policy}
        return {
            "Deprecation": f"@{int(_midnight(self.since).timestamp())}",
            "Sunset": format_datetime(_midnight(self.sunset), usegmt=True),
            "Link": ", ".join(f'<{target}>; rel="{kind}"' for kind, target in links.items() if target),
        }


Operation = tuple[str, str]
"""A method, and the template of a path."""
Deprecations = Mapping[Operation, Deprecation]

DEPRECATIONS: Deprecations = {}
"""Everything that is deprecated now; docs/explanation/deprecation.md lists the same."""


def add_deprecations(api: FastAPI, routers: Iterable[APIRouter], deprecations: Deprecations) -> None:
    """
    Have the document and every answer of these operations say that they are deprecated.

    Raises ConfigurationError where one of them does not exist.
    """
    missing = dict(deprecations)
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        for method in route.methods or ():
            if missing.pop((method, route.path_format), None) is not None:
                route.deprecated = True
    if missing:
        raise ConfigurationError(f"Deprecated, and not there: {sorted(missing)}.")
    if deprecations:
        api.add_middleware(Farewell, deprecations=deprecations)


class Farewell:
    """Adds its headers to every answer of a deprecated operation; the log hears of its use once a process."""

    def __init__(self, app: ASGIApp, deprecations: Deprecations) -> None:
        self._app = app
        self._deprecations = deprecations
        self._told: set[Operation] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""

        async def send_with_notice(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_notice(scope, MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_with_notice if scope["type"] == "http" else send)

    def _add_notice(self, scope: Scope, headers: MutableHeaders) -> None:
        operation = (scope["method"], getattr(scope.get("route"), "path_format", ""))
        deprecation = self._deprecations.get(operation)
        if deprecation is None:
            return
        for name, value in deprecation.headers().items():
            headers.append(name, value)  # a list has links of its own
        if operation not in self._told:
            self._told.add(operation)
            method, route = operation
            emit("route.deprecated", method=method, route=route, sunset=deprecation.sunset.isoformat())


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
