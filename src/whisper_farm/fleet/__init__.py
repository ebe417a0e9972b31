"""Machines on demand: pools say what may be started, the decision says what to do now, providers do it.

This room starts, drains and ends machines that run workers. It knows no engines, no audio and no HTTP routes.
"""
