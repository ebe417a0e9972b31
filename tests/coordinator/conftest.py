"""What the coordinator's tests stand on: a served farm, users and workers by hand."""

from __future__ import annotations

from support.served_fixtures import either_farm, farm, make_worker, start_farm, worker

__all__ = ["either_farm", "farm", "make_worker", "start_farm", "worker"]
