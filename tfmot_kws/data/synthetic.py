# SPDX-License-Identifier: Apache-2.0
"""Synthetic speech for trying things out: a wake word, words like it, and other words.

espeak-ng speaks, through the optional package ``espeakng-loader``. It is GPL-3, hence an opt-in
extra, loaded only in a process of its own (``python -m tfmot_kws.synthetic``). The same seed
gives the same bytes in every file.

Clips get noise at random levels and random loudness and speed, so that a model trained on them
makes visible errors: the words are like each other and a part of the clips is hard to hear.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tfmot_kws import extras
from tfmot_kws.data import alignment
from tfmot_kws.data import corpus as corpora
from tfmot_kws.sound import augment, espeak
from tfmot_kws.sound import files as audio

WAKE = "alexa"
CONFUSABLES = (
    "alexis",
    "alexander",
    "electra",
    "election",
    "elixir",
    "lexus",
    "relax",
    "a lecture",
    "annexa",
    "select a",
    "alaska",
    "a taxi",
)
OTHERS = (
    "yes",
    "no",
    "stop",
    "happy",
    "computer",
    "seven",
    "window",
    "marvin",
    "tomorrow",
    "kitchen",
    "lights on",
    "play music",
    "weather",
    "good morning",
    "question",
    "garden",
    "table",
    "sheila",
)
MANIFEST = "manifest.csv"
_RATE = 16000
_BABBLE_VOICES = 6


@dataclasses.dataclass(frozen=True)
class _Utterance:
    """What to speak and how, drawn before anything is spoken."""

    index: int
    word: str
    text: str
    kind: str
    dialect: str
    variant: str
    speed: int
    pitch: int
    pitch_range: int


def synthesize(
    out_dir: str | os.PathLike,
    wake: str = WAKE,
    confusables: Sequence[str] = CONFUSABLES,
    others: Sequence[str] = OTHERS,
    clips: int = 3000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    phones: bool = False,
) -> corpora.Corpus:
    """Speaks clips of about a second into a folder, with a ``manifest.csv``.

    Three in ten are the wake word, as many confusable words, as many other words; the rest is
    noise. A folder made by the same call before is opened, not made again. The folder appears
    complete or not at all.

    Args:
        out_dir: must not exist, or be empty, or hold the result of the same call.
        wake: the wake word or phrase.
        confusables: words or phrases like it.
        others: any other words or phrases.
        clips: how many files, at least 20.
        seed: of everything random.
        progress: called with (clips done, clips in all).
        phones: writes ``alignment.csv`` too: when espeak-ng speaks each phone (see ``tfmot_kws.alignment``), under
            its own names for them. The sound is the same.

    Returns:
        The corpus; speakers are a dialect and a voice each, and keep to one split.

    Raises:
        ImportError: espeakng-loader is not installed.
        ValueError: too few clips, no words, or a folder with something else in it.
        RuntimeError: the speaking process failed; its message is included.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ImportError(f"synthetic speech needs espeak-ng: {extras.install('espeakng_loader')}")
    if clips < 20:
        raise ValueError(f"clips={clips!r}: must be 20 or more")
    words = [wake, *confusables, *others]
    if not confusables or not others or not all(word.strip() for word in words):
        raise ValueError(f"wake={wake!r}, {len(confusables)} confusables, {len(others)} others: all are needed")
    if wake in (*confusables, *others):
        raise ValueError(f"wake={wake!r}: must not be among the confusables and others")
    out_dir = Path(out_dir)
    options = {
        "wake": wake,
        "confusables": list(confusables),
        "others": list(others),
        "clips": clips,
        "seed": seed,
        "version": 1,
        # Named only where asked for: folders of versions without it stay good.
        **({"phones": True} if phones else {}),
    }
    stamp = out_dir / "synthetic.json"
    if stamp.is_file():
        try:
            before = json.loads(stamp.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{stamp}: is damaged ({error}); remove {out_dir}, and it is made again") from error
        if before == options:
            return corpora.from_manifest(out_dir / MANIFEST)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise ValueError(f"{out_dir}: exists and was not made by this call; give another folder")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}."))
    try:
        (temporary / stamp.name).write_text(json.dumps(options, indent=1), encoding="utf-8")
        _run(temporary, progress)
        temporary.chmod(0o755)
        os.replace(temporary, out_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return corpora.from_manifest(out_dir / MANIFEST)


def _run(folder: Path, progress: Callable[[int, int], None] | None) -> None:
    command = [sys.executable, "-m", "tfmot_kws.data.synthetic", str(folder)]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        ) as process:
            for line in process.stdout:
                done, _, total = line.partition("/")
                if progress is not None and done.isdigit():
                    progress(int(done), int(total))
        if process.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"espeak-ng process ended with status {process.returncode}: {errors.read()[-2000:]}")


def _plan(options: dict, variants: Sequence[str]) -> list[_Utterance]:
    """Everything that will be spoken, in order; noise clips have no text."""
    rng = np.random.default_rng([options["seed"], 1])
    usable = espeak.people(variants)
    plan = []
    for index in range(options["clips"]):
        part = index % 10
        if part < 3:
            text, kind = options["wake"], "wake"
        elif part < 6:
            text, kind = options["confusables"][int(rng.integers(len(options["confusables"])))], "confusable"
        elif part < 9:
            text, kind = options["others"][int(rng.integers(len(options["others"])))], "other"
        else:
            text, kind = "", "noise"
        plan.append(
            _Utterance(
                index=index,
                word=text or "noise",
                text=text,
                kind=kind,
                dialect=espeak.DIALECTS[int(rng.integers(len(espeak.DIALECTS)))],
                variant=usable[int(rng.integers(len(usable)))],
                speed=int(rng.integers(130, 231)),
                pitch=int(rng.integers(20, 81)),
                pitch_range=int(rng.integers(20, 81)),
            )
        )
    return plan


def trim(sound: np.ndarray) -> tuple[np.ndarray, int]:
    """Cuts what is 40 dB below the peak at both ends; returns how many samples went ahead, too."""
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max()) if len(sound) else []
    return (sound[loud[0] : loud[-1] + 1], int(loud[0])) if len(loud) else (sound[:0], 0)


def pink_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [samples] of noise whose power falls by 3 dB per octave, RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0))
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _noise(samples: int, babble: collections.deque[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """White, pink or babble noise, RMS about 1."""
    choice = int(rng.integers(3))
    if choice == 0:
        return rng.standard_normal(samples).astype(np.float32)
    if choice == 1 or not babble:
        return pink_noise(samples, rng)
    out = np.zeros(samples, np.float32)
    for _ in range(_BABBLE_VOICES):
        voice = babble[int(rng.integers(len(babble)))]
        out += augment.take_noise(voice, samples, rng)
    return out / max(float(np.sqrt(np.mean(out**2))), 1e-6)


def _mix(
    spoken: np.ndarray, babble: collections.deque[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, float, float]:
    """Puts a word into a second or more of noise; returns start and end in seconds too."""
    length = max(_RATE, len(spoken) + _RATE // 10)
    first = int(rng.integers(length - len(spoken) + 1))
    clean = np.zeros(length, np.float32)
    clean[first : first + len(spoken)] = spoken
    if len(spoken) and rng.random() < 0.2:
        clean = augment.reverberate(clean, augment.room(rng, rng.uniform(0.1, 0.5), _RATE))
    noise, snr_db = _noise(length, babble, rng), rng.uniform(8.0, 30.0)
    if len(spoken):
        sound = augment.add_noise(clean, noise, snr_db)
    else:
        sound = noise
    peak = float(np.abs(sound).max())
    level = 10.0 ** (rng.uniform(-26.0, -3.0) / 20.0)
    return sound * np.float32(level / max(peak, 1e-6)), first / _RATE, (first + len(spoken)) / _RATE


def _placed(phones: Sequence[alignment.Segment], moved: float, start: float, end: float) -> list[alignment.Segment]:
    """Phones of an utterance in its file: ``moved`` by some seconds, cut to what is left between start and end."""
    placed = []
    for phone in phones:
        first, last = max(phone.start + moved, start), min(phone.end + moved, end)
        if first < last:
            placed.append(alignment.Segment(first, last, phone.label))
    return placed


def _speak_all(folder: Path) -> None:
    """The child process: reads ``synthetic.json`` in ``folder``, writes sound, manifest and alignment."""
    options = json.loads((folder / "synthetic.json").read_text(encoding="utf-8"))
    engine = espeak.Espeak(espeak.DIALECTS[0], phones=options.get("phones", False))
    babble: collections.deque[np.ndarray] = collections.deque(maxlen=40)
    plan = _plan(options, engine.variants())
    rows = ["path,word,speaker,kind,split,word_start,word_end"]
    segments: list[tuple[str, alignment.Segment]] = []
    for utterance in plan:
        rng = np.random.default_rng([options["seed"], 2, utterance.index])
        spoken, trimmed, phones = np.zeros(0, np.float32), 0, ()
        if utterance.text:
            voice = f"{utterance.dialect}+{utterance.variant}"
            raw, phones = engine.speak(
                utterance.text, voice, utterance.speed, utterance.pitch, utterance.pitch_range, 1 + utterance.index
            )
            spoken = audio.resample(raw.astype(np.float32) / 32768.0, engine.rate, _RATE, "soundfile")
            spoken, trimmed = trim(spoken)
        sound, start, end = _mix(spoken, babble, rng)
        if utterance.kind == "other":
            rms = float(np.sqrt(np.mean(np.square(spoken)))) if len(spoken) else 0.0
            if rms > 0.0:
                babble.append(spoken / np.float32(rms))
        place = folder / utterance.word.replace(" ", "_")
        place.mkdir(exist_ok=True)
        speaker = f"{utterance.dialect}+{utterance.variant}".replace(" ", "-")
        file = place / f"{speaker}_nohash_{utterance.index}.wav"
        audio.write(file, sound, _RATE)
        times = f"{start:.4f},{end:.4f}" if len(spoken) else ","
        split = corpora.hash_split(speaker, 15.0, 15.0)
        name = file.relative_to(folder).as_posix()
        rows.append(f"{name},{utterance.word},{speaker},{utterance.kind},{split},{times}")
        placed = _placed(phones, start - trimmed / _RATE, start, end)
        silent = alignment.Segment(0.0, len(sound) / _RATE, alignment.SILENCE)
        segments += [(name, phone) for phone in placed or [silent]]
        if (utterance.index + 1) % 100 == 0 or utterance.index + 1 == len(plan):
            print(f"{utterance.index + 1}/{len(plan)}", flush=True)
    (folder / MANIFEST).write_text("\n".join(rows) + "\n", encoding="utf-8")
    if options.get("phones"):
        alignment.write(folder / alignment.ALIGNMENT, segments)


if __name__ == "__main__":
    _speak_all(Path(sys.argv[1]))
