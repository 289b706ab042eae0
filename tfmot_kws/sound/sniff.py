# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of a stream are: sound with a header, samples without one, or no sound at all."""

from __future__ import annotations

from tfmot_kws.sound import wav

BYTES = 8192
"""So many first bytes tell; fewer where there are no more."""
_SOUND = (
    (0, b"fLaC"), (0, b"OggS"), (0, b"ID3"), (0, b".snd"), (0, b"caff"), (0, b"riff"), (0, b"wvpk"), (0, b"MAC "),
    (0, b"NIST_1A"), (0, b"Creative Voice File"), (0, b" paf"), (0, b"fap "), (0, b"2BIT"), (0, b"PVF1"),
    (0, b"ALawSoundFile"), (0, b"\x64\xa3\x01\0"), (0, b"\x64\xa3\x02\0"),
    (0, b"\x64\xa3\x03\0"), (0, b"\0\x01\xa3\x64"),
    (0, b"#!AMR"), (4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (0, b"\x30\x26\xb2\x75"),
)  # fmt: skip
_FORMS = (b"AIFF", b"AIFC", b"8SVX", b"16SV")
_OTHER = {
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture",
    b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b\x08": "gzip data", b"BZh": "bzip2 data", b"\xfd7zXZ\0": "xz data",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!\x1a": "a RAR archive", b"II*\0": "a TIFF picture", b"MM\0*": "a TIFF picture", b"MThd": "notes (MIDI)",
    b"MZ\x90\0": "a program", b"\x80\4\x95": "a pickle", b"PAR1": "a table (Parquet)",
    b"\x28\xb5\x2f\xfd": "zstd data", b"%PDF": "a PDF file", b"\x7fELF": "a program", b"\x93NUMPY": "a numpy array",
    b"\x89HDF": "an HDF5 file", b"SQLite format": "a database", b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}  # fmt: skip
_BITRATES = {  # kbit/s of MPEG 1 and of MPEG 2 and 2.5, layer III
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_FRAMES = 3


def kind(first: bytes) -> str:
    """What begins so.

    Args:
        first: the first ``BYTES`` of the stream.

    Returns:
        ``"wav"``, ``"sound"`` (another format that decoders know), ``"raw"`` (nothing says what it is: samples), or
        what it is that is no sound, ``"text"`` say.
    """
    if first[:4] in wav.HEADS:
        return "wav"
    if any(first[at : at + len(magic)] == magic for at, magic in _SOUND):
        return "sound"
    if first[:4] == b"FORM" and first[8:12] in _FORMS:
        return "sound"
    if _frames(first, _mp3_frame) or _frames(first, _adts_frame):
        return "sound"
    if first[4:8] == b"TFL3":
        return "a .tflite file"
    if first[257:262] == b"ustar":
        return "a tar archive"
    for magic, name in _OTHER.items():
        if first.startswith(magic) and not (len(magic) == 2 and not _is_wide_text(first)):
            return name
    return "text" if _is_text(first) else "raw"


def _is_wide_text(first: bytes) -> bool:
    """Whether UTF-16 follows its mark, two bytes that a sample could be as well."""
    try:
        text = first[: len(first) // 2 * 2].decode("utf-16")
    except UnicodeDecodeError:
        return False
    return len(text) > 1 and all(c.isprintable() or c.isspace() for c in text)


def _is_text(first: bytes) -> bool:
    """Whether these bytes are nothing but text: samples hold zeros and other bytes that no text has."""
    if len(first) < 4:
        return False
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" or byte == 127 for byte in first):
        return False
    if len(first) >= 64 and sum(byte < 128 for byte in first) > 0.8 * len(first):
        return True  # in whatever encoding
    for cut in range(4):  # the last character may be cut off
        try:
            first[: len(first) - cut].decode("utf-8")
            return True
        except UnicodeDecodeError:
            continue
    return False


def _frames(first: bytes, length) -> bool:
    """Whether several frames of a format follow each other; one header alone could be a sample."""
    at = 0
    for count in range(_FRAMES):
        size = length(first[at : at + 8])
        if size is None:
            return count > 0 and at >= len(first)
        at += size
    return True


def _mp3_frame(head: bytes) -> int | None:
    """Bytes of the frame of MPEG audio, layer III, that has this header; None where it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or not 0 < bitrate < 15 or rate == 3:
        return None
    one = version == 3
    kbits, hertz = _BITRATES[one][bitrate - 1], _RATES[version][rate]
    return (144 if one else 72) * 1000 * kbits // hertz + (head[2] >> 1 & 1)


def _adts_frame(head: bytes) -> int | None:
    """The same of AAC without a container."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size >= 7 else None
