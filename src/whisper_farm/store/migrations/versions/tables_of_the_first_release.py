"""Every table as `tables.py` describes it.

Until the first release the tables may change, and this step changes with them, and its name. With the release it has to
be written out, and every later change is a step of its own.
"""

from __future__ import annotations

from alembic import op

from whisper_farm.store.schema import LAST_STEP
from whisper_farm.store.tables import metadata

revision = LAST_STEP
down_revision = None


def upgrade() -> None:
    """Make every table, with its constraints and indexes."""
    metadata.create_all(op.get_bind(), checkfirst=False)
