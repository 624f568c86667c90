"""The compose files that we ship, read and laid over each other as Compose does it with what is in them."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
BY_APPENDING = frozenset({"ports", "volumes", "tmpfs", "security_opt", "cap_add", "cap_drop", "configs"})
"""Lists of an overlay are added to these, and come in the place of any other."""


class _Reset:
    """What `!reset` leaves: nothing, whatever the file below says."""


class _Loader(yaml.SafeLoader):
    """Knows the one tag of Compose's that we use."""


_Loader.add_constructor("!reset", lambda _loader, _node: _Reset())


def development() -> dict[str, Any]:
    """What `docker compose up` reads."""
    return _read("docker-compose.yml")


def production() -> dict[str, Any]:
    """The same with the overlay for production over it."""
    return _laid_over(development(), _read("docker-compose.prod.yml"))


def _read(name: str) -> dict[str, Any]:
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), _Loader)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = below | {name: _one(name, below.get(name), value) for name, value in above.items()}
    return {name: value for name, value in merged.items() if not isinstance(value, _Reset)}


def _one(name: str, below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return _laid_over(below, above)
    if isinstance(below, list) and isinstance(above, list) and name in BY_APPENDING:
        return [*below, *(item for item in above if item not in below)]
    return above
