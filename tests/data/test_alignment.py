# SPDX-License-Identifier: Apache-2.0
"""Tables of segments: what they say, and what is wrong with them."""

from __future__ import annotations

import pytest

from tfmot_kws.data import alignment
from tfmot_kws.data.alignment import Segment


def test_reads_what_was_written(tmp_path) -> None:
    rows = [("b/x.wav", Segment(0.5, 1.0, "k, l")), ("a.wav", Segment(0.0, 0.25, "sil"))]
    rows += [("b/x.wav", Segment(0.1, 0.5, "a")), ("a.wav", Segment(0.3, 0.30001, "short"))]
    alignment.write(tmp_path / alignment.ALIGNMENT, rows)
    found = alignment.read(tmp_path)
    assert found == {
        str(tmp_path / "b/x.wav"): (Segment(0.1, 0.5, "a"), Segment(0.5, 1.0, "k, l")),
        str(tmp_path / "a.wav"): (Segment(0.0, 0.25, "sil"),),
    }
    assert found == alignment.read(tmp_path / alignment.ALIGNMENT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,start,end\na.wav,0,1\n", r"columns \['label'\] missing"),
        ("path,start,end,label\n", "holds no segments"),
        ("path,start,end,label\na.wav,0,1,x\n,1,2,y\n", "line 3: no path"),
        ("path,start,end,label\na.wav,0,1,x\na.wav,one,2,y\n", "line 3: start='one' is no number of seconds"),
        ("path,start,end,label\na.wav,0,,x\n", "line 2: end='' is no number"),
        ("path,start,end,label\na.wav,1,1,x\n", "line 2: start=1, end=1: must be 0 <= start < end"),
        ("path,start,end,label\na.wav,-1,1,x\n", "line 2: start=-1"),
        ("path,start,end,label\na.wav,0,nan,x\n", "line 2: start=0, end=nan"),
        ("path,start,end,label\na.wav,0,1, \n", "line 2: no label"),
        ("path,start,end,label\na.wav,0.5,1,x\nb.wav,0,1,x\na.wav,0,0.6,y\n",
         "line 2: 'x' from 0.5 s overlaps 'y' of line 4, which ends at 0.6 s"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(tmp_path, text, message) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.csv.*{message}"):
        alignment.read(file)


def test_no_file(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"alignment\.csv: no such alignment"):
        alignment.read(tmp_path)
