"""What the farm remembers: state in a database, audio and results in a blob store.

Nothing here knows HTTP, queues or recognisers. Which file has what is in `docs/ARCHITECTURE.md`.
"""
