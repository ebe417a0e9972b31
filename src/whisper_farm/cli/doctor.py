"""`whisper-farm doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import click

from whisper_farm.cli.connection import server_flags
from whisper_farm.cli.whisper_flags import Command


@click.command(cls=Command)
@server_flags
def doctor(server: str | None, token: str | None) -> int:
    """Say what works on this machine (engines, models, GPU, cores, disk, server) and what to do about the rest.

    Exit code 1 if something is broken that is needed.
    """
    from whisper_farm.cli.examining import MARKS, examine

    broken = False
    for finding in examine(server, token):
        broken = broken or finding.state == "broken"
        print(f"{MARKS[finding.state]} {finding.what}: {finding.detail}")
        if finding.advice:
            print(f"    → {finding.advice}")
    return 1 if broken else 0
