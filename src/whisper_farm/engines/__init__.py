"""Recognisers behind one small interface: one file an engine. Knows nothing of jobs or HTTP."""
