"""What the farm remembers: state in a database, audio and results in a blob store.

`database.py` opens SQLite (`sqlite.py`) or PostgreSQL (`postgres.py`); `backend.py` is what both have in common.
`statements.py` is the form of all SQL, `tables.py` and `outer_tables.py` say what is in the database, and `schema.py`
brings it up to date.
The rows are those of `transcriptions.py`, `jobs.py`, `workers.py`, `uploads.py`, `tokens.py`, `accounts.py`,
`machines.py`, `events.py` and `counts.py`.
`blobs.py` keeps the big files, and `references.py` says which of them the database names.
Nothing here knows HTTP, queues or recognisers.
"""
