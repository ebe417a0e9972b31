"""The work-stealing queue: transcriptions become jobs, workers claim them as attempts, results come back once.

Every operation is a function of one open `Transaction` (see `store/database.py`) and therefore happens
entirely or not at all; its first sentence says what that is. `tx.now` is the only clock. All of them but
`heartbeat` run in `Database.write`, one at a time over the whole farm; a heartbeat runs in
`Database.beat` beside them. That is why whoever changes attempts first locks their rows, once and in
order of token; why what is touched later in the same transaction (a lease renewed in passing, a lapsed
job) is left alone where it is locked, for then a heartbeat is renewing it; and why rows of `workers` are
written last, with the commit. So nobody waits in a circle (`tests/leases/test_locks.py`).

    submit.py      a recording comes in                  workers.py   who claims
    claim.py       jobs go out (queue.py, lapse.py,      beat.py      leases are renewed
                   hedge.py)
    append.py      chunks come in                        complete.py  results come in (language.py)
    fail.py        failures, releases                    settle.py    the last job of a recording ends
    lifecycle.py   cancel, retry, delete, assemble       reap.py      what silence leaves behind
    due.py         when to look again                    turns.py     whose turn it is
    held.py        the fence of every claim              policy.py    leases and waits in numbers

Knows nothing of HTTP, audio or engines: blobs are keys, results are digests. What clients see of it is put together
in `coordinator/views.py`.
"""
