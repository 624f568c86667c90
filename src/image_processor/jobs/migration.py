"""How the tables are brought to their newest form. Loaded only to do that: Alembic is slow to load."""

import threading

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from image_processor.errors import ConfigurationError

MIGRATIONS = "image_processor.jobs:migrations"
_turn = threading.Lock()  # Alembic keeps its context in a global


def upgrade(connection: Connection) -> None:
    """Run, within this transaction, the migrations that are missing. Raises ConfigurationError."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        with _turn:
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(f"The database cannot be migrated: {error}") from error
