"""A reaper in a process of its own that stops half-way: it has written, and does not commit. To be killed there.

Arguments: the database, the time by its clock, the policy as JSON. Says what it has done, in one line.
"""

from __future__ import annotations

import sys

from whisper_farm.leases.lapse import reap
from whisper_farm.settings import Policy
from whisper_farm.store.database import Database, Transaction


def _half(tx: Transaction, policy: Policy) -> None:
    print(reap(tx, policy), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    place, clock, told = sys.argv[1:]
    Database.open(place).write(lambda tx: _half(tx, Policy.model_validate_json(told)), now=float(clock))
