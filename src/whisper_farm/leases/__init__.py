"""The work-stealing queue: transcriptions become jobs, workers claim them as attempts, results come back once.

Every operation is a function of one open `Transaction` (see `store/database.py`). So it happens entirely or not at
all; its first sentence says what that is. `tx.now` is the only clock. All but `heartbeat` run in `Database.write`, one
at a time over the whole farm. A heartbeat runs in `Database.beat` beside them. Three rules keep them from waiting for
each other in a circle (`tests/leases/test_locks.py`):

- Whoever changes attempts first locks their rows, once, in order of token.
- What is touched later in the same transaction is left alone where it is locked: a heartbeat is renewing it.
- Rows of `workers` are written last, with the commit.

Knows nothing of HTTP, audio or engines: blobs are keys, results are digests. What clients see of it is put together
in `coordinator/views.py`. Which file does what is in `docs/ARCHITECTURE.md`.
"""
