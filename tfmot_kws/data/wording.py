# SPDX-License-Identifier: Apache-2.0
"""The words of a text, and what a phrase is called by them. Imports no numpy."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Signs within words of some scripts that are no letters, as vowel signs (category M) are none."""


def words_of(text: str) -> list[str]:
    """The words of a text as a dictionary has them: small letters, digits, apostrophes within words, no other signs."""
    plain = unicodedata.normalize("NFC", text.replace("\u2019", "'")).lower()
    kept = "".join(c if c in f"'{_JOINERS}" or unicodedata.category(c)[0] in "LMN" else " " for c in plain)
    # An apostrophe that is not between two letters is a quotation mark.
    return [word.strip(_JOINERS) for word in re.sub(r"'(?=[\s']|$)|(?<![^\s'])'", " ", kept).split()]


def name_of(phrase: str) -> str:
    """What the class of a phrase is called: its words, one blank between; a comma would part it in ``--keywords``.

    "" where the phrase has no word.
    """
    return " ".join(words_of(phrase))
