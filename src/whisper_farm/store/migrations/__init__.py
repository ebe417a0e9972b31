"""The steps from nothing to today's tables, one file each in `versions/`, named by what it does.

To change a table after the first release, do four things. Change `tables.py`. Write the next step here. Raise
`schema.VERSION`, with `schema.LAST_STEP`. Decide about `schema.COMPATIBLE_FROM`. The tests compare what the steps make
with what `tables.py` says, on both databases, down to the text of every constraint: new databases are made from that.
"""

from __future__ import annotations

from alembic.config import Config
from sqlalchemy import Connection


def alembic_config(connection: Connection | None = None) -> Config:
    """How Alembic finds the steps, and the connection it works on."""
    config = Config()
    config.set_main_option("script_location", "whisper_farm.store:migrations")
    config.attributes["connection"] = connection
    return config
