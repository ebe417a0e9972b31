"""What the farm remembers: state in a database, audio and results in a blob store.

`database.py` opens SQLite or PostgreSQL, `tables.py` says what is in it, `schema.py` brings it up to date,
`prepared.py` and `rows.py` make statements that are run often cheap,
`events.py`, `tokens.py` and `transcriptions.py` are the tables every room reads, `blobs.py` keeps the big files.
Nothing here knows HTTP, queues or recognisers.
"""
