"""Ports for programs that must be told one before they listen, and that may listen there again after they died.

The system gives none of them away, to whoever listens on any port or connects from one: another test could take such a
port while nobody listens, and so could a client that knocks, by connecting to itself.
"""

from __future__ import annotations

import itertools
import os
import random
import socket

FIRST, EACH, PARTS = 20_000, 400, 30
"""All lie below 32,768, where Linux begins to give ports away. Each process of a run has a part of them."""
_turns = itertools.count(random.randrange(EACH))


def free_port() -> int:
    """A port that nobody listens on; it comes again when all others have had their turn."""
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PARTS
    for turn in itertools.islice(_turns, EACH):
        port = FIRST + part * EACH + turn % EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"somebody listens on all of {EACH} ports")
