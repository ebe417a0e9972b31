"""What the attacks are tried on: a served farm on SQLite and a folder, and workers by hand."""

from __future__ import annotations

from support.served_fixtures import farm, make_worker, start_farm

__all__ = ["farm", "make_worker", "start_farm"]
