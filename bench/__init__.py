"""Benchmarks: ratios taken in one run on one machine, against a named competitor or a physical limit. Never a test."""
