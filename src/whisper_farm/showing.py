"""What others wrote, on its way to a terminal, a log or a spreadsheet: shown, and never obeyed.

All text of strangers that is shown to a person goes through here. It is light: every command may import it at once.
"""

from __future__ import annotations

import re
from unicodedata import category

CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the writing around: they could make a name read as another."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula, in the wide forms as well."""
SECOND_FORMULA = re.compile(rf""";(?=[\s"']*[{re.escape("".join(FORMULA))}])""")
DIALOGUE = re.compile(r"^[-\uff0d](?=\s)")


def printable(name: str) -> str:
    """A name or a text without anything a terminal would obey instead of show."""
    return "".join("�" if letter in DIRECTIONS or category(letter) in CONTROLS else letter for letter in name)


def printable_lines(text: str) -> str:
    """The same for a text of several lines; tabs stay, too."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def cell(text: str) -> str:
    """A text for one cell of a table: on one line, and no formula.

    The dash of a dialogue becomes a long one, which is none. A semicolon is none before what would be a formula if
    tables were parted at semicolons, as they are in half of Europe.
    """
    line = SECOND_FORMULA.sub(",", " ".join(text.replace("\t", " ").strip().splitlines()))
    line = DIALOGUE.sub("–", line)
    return f"'{line}" if line.startswith(FORMULA) else line


def say(text: str) -> None:
    """Print lines that hold what others wrote."""
    print(printable_lines(text))
