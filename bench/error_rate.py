"""How far a transcript is from the words that were said.

Compares words alone: case, punctuation and the form of apostrophes do not count; spelling and numerals do.
Texts of scripts that put no spaces between words are compared phrase by phrase, which says little.
"""

from __future__ import annotations

import unicodedata

import jiwer

APOSTROPHES = frozenset("'’ʼ`")


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: lower case, letters, marks and digits only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(_spelt(character) for character in folded).split()


def word_errors(reference: str, hypothesis: str) -> int:
    """The fewest words to put in, leave out or replace to turn one text into the other."""
    said, heard = words_of(reference), words_of(hypothesis)
    if not said:
        return len(heard)
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    return found.substitutions + found.deletions + found.insertions


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Word errors for each word that was said: 0 is perfect; more than 1 is possible where much was made up."""
    return word_errors(reference, hypothesis) / max(1, len(words_of(reference)))


def _spelt(character: str) -> str:
    if character in APOSTROPHES:
        return ""
    return character if unicodedata.category(character)[0] in "LMN" else " "
