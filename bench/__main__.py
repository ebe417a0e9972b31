"""`./run bench [NAME…]`: every benchmark, or those named, one after the other on this machine."""

from __future__ import annotations

import importlib
import os
import platform
import sys

NAMES = ("cutting", "memory", "recognition", "scaling", "queue", "fleet", "strangers", "doors", "web")


def main(names: list[str]) -> None:
    """Run them in order."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}.")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in names or NAMES:
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
