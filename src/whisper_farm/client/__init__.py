"""The Python client of the farm's HTTP API: calls, and the stream of events."""
