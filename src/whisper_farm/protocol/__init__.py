"""The wire: pydantic models of the worker API and the client API, error bodies, protocol version.

Knows no storage and no engine. Requests are strict, answers are tolerant; every text, list and number is bounded.
"""
