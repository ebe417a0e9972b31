"""Whisper Farm: transcribe recordings on many machines that pull chunks of audio.

The package keeps one subject per folder (see ``docs/ARCHITECTURE.md``). Importing it is cheap:
nothing heavy (recognisers, FFmpeg, web server) is loaded before it is needed.
"""

from __future__ import annotations

__version__ = "0.1.0"
DEFAULT_ENGINE = "faster-whisper"
"""The engine for who names none; `engines/registry.py` knows which there are."""
