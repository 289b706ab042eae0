"""The words of a text, and the name of a phrase's class."""

from __future__ import annotations

import pytest

from tfmot_kws.data import wording


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hey nova", "hey nova"),
        ("  Hey,\tnova! ", "hey nova"),
        ("what's up", "what's up"),
        ("What\u2019s up?", "what's up"),
        ("'tis 'quoted' o'clock'", "tis quoted o'clock"),
        ("wi-fi 2_0", "wi fi 2 0"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("?!' '", ""),
    ],
)
def test_a_name_is_the_words_of_a_phrase(text, name):
    assert wording.name_of(text) == name and wording.name_of(name) == name
    assert wording.words_of(text) == name.split()
