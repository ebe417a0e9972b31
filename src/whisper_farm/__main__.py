"""The start of `whisper-farm` and of `python -m whisper_farm`: Ctrl-C while it loads ends it, and shows no traceback.

Nothing is open by then. `cli/stopping.py` says what holds once a command runs.
"""

from __future__ import annotations

import os


def start() -> None:
    """Load the command line and run it."""
    try:
        from whisper_farm.cli.main import run

        run()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    start()
