"""A bell that wakes everybody who waits for it at that moment."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Nothing is remembered: look first whether you need to wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for the next `ring`, or so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_seconds)
