"""The wire: pydantic models of the worker API and the client API, error bodies, protocol version.

Knows no storage and no engine. Unknown fields are refused, every text, list and number is bounded.
"""
