# SPDX-License-Identifier: Apache-2.0
"""What ``tfmot-kws phrase`` is asked for, and how much of everything it makes. Imports no numpy."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from tfmot_kws.data import wording

NETWORKS = ("mixed_net", "ds_cnn_stream", "wakeword_250k")
DEVICES = ("esphome",)
MOST_TOGETHER = 8
"""Models of ``--ensemble``."""
OWN = "own"
"""The speaker of the recordings of ``--own``."""
OWN_SHARE = 0.25
"""Hours of scenes with the user's own voice for each hour with the phrase."""
STREAMS, OWN_STREAMS, SELECTION = "streams", "streams_own", "selection"
"""Folders of sound: of the test, of the test with the user's own voice, and of the choice (in the work folder)."""
TRAINING = "training"
"""Folder of the epochs that training goes on from (in the work folder)."""
_ESPHOME_HOP_MS = 10


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is made, and how long it is trained on.

    Attributes:
        count: clips of the phrase, of all voices together; as many of what sounds like it.
        chatter: sentences of random words, of all voices together.
        slow: at most so many clips of each kind by one of the voices that need a second for each (kokoro, piper).
        hours: of scenes to train on, a half of them with the phrase.
        selection_hours: of scenes by which weights and threshold are chosen.
        test_hours: of scenes that the report is about.
        material_hours: of recordings of ``--data``, at most so many of each split are drawn from.
        scene_seconds: length of a scene.
        epochs, stage1_epochs, stage2_epochs, own_epochs: of training; the last with ``--own`` only.
        steps: batches in an epoch.
        batch_size: windows in a batch.
    """

    count: int = 4000
    chatter: int = 1000
    slow: int = 600
    hours: float = 20.0
    selection_hours: float = 2.0
    test_hours: float = 3.0
    material_hours: float = 4.0
    scene_seconds: float = 60.0
    epochs: int = 12
    stage1_epochs: int = 5
    stage2_epochs: int = 3
    own_epochs: int = 2
    steps: int = 800
    batch_size: int = 128


FAST = Sizes(
    count=1500, chatter=300, slow=60, hours=2.5, selection_hours=0.75, test_hours=0.75, material_hours=1.5,
    epochs=8, stage1_epochs=3, stage2_epochs=2, own_epochs=1, steps=400,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """The command's options; its help says what each is.

    Raises:
        ValueError: an option is outside of what is allowed, or two do not go together; the message names it.
        FileNotFoundError: a folder or a file that is named is not there.
    """

    phrase: str
    out: pathlib.Path
    voices: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    styles: pathlib.Path | None = None
    voice_files: tuple[pathlib.Path, ...] = ()
    data: tuple[pathlib.Path, ...] = ()
    negatives: tuple[pathlib.Path, ...] = ()
    rooms: tuple[pathlib.Path, ...] = ()
    noises: tuple[pathlib.Path, ...] = ()
    own: pathlib.Path | None = None
    network: str = "mixed_net"
    ensemble: int = 1
    bits: int = 4
    teacher: pathlib.Path | None = None
    fa_per_hour: float = 0.5
    hop_ms: int | None = None
    device: str | None = None
    seed: int = 0
    jobs: int = 1
    sizes: Sizes = dataclasses.field(default_factory=Sizes)
    tensorboard: pathlib.Path | None = None

    def __post_init__(self) -> None:
        if not any(letter.isalpha() for letter in self.phrase):
            raise ValueError(f"phrase {self.phrase!r}: has no letters; name what is to be said, such as 'hey nova'")
        if self.network not in NETWORKS:
            raise ValueError(f"--network {self.network}: must be one of {', '.join(NETWORKS)}")
        if not 1 <= self.ensemble <= MOST_TOGETHER:
            raise ValueError(f"--ensemble {self.ensemble}: must be between 1 and {MOST_TOGETHER}")
        if not 1 <= self.bits <= 8:
            raise ValueError(f"--bits {self.bits}: must be between 1 and 8")
        if not 0.0 < self.fa_per_hour < float("inf"):
            raise ValueError(f"--fa-per-hour {self.fa_per_hour}: must be above 0")
        if self.device not in (None, *DEVICES):
            raise ValueError(f"--for {self.device}: must be {' or '.join(DEVICES)}")
        if self.hop_ms not in (None, 10, 20):
            raise ValueError(f"--hop-ms {self.hop_ms}: must be 10 or 20")
        if self.device == "esphome" and self.hop_ms == 20:
            raise ValueError(
                "--for esphome: ESPHome's own models take features every 10 ms and share them; take --hop-ms 10"
            )
        if self.hop == 10 and self.network != "mixed_net":
            raise ValueError(
                f"--network {self.network}: spans a phrase at hops of 20 ms only; take mixed_net for hops of 10 ms"
                + (" (--for esphome needs them)" if self.device else "")
            )
        for name in ("hours", "selection_hours", "test_hours"):
            if not 0.0 < getattr(self.sizes, name) <= 10000.0:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self.sizes, name)}: must be above 0")
        folders = [("--data", one) for one in self.data if one.suffix != ".csv"]
        folders += [("--negatives", one) for one in self.negatives] + [("--rooms", one) for one in self.rooms]
        folders += [("--noises", one) for one in self.noises]
        for option, folder in [*folders, *((("--own", self.own),) if self.own else ())]:
            if not folder.is_dir():
                raise FileNotFoundError(f"{option} {folder}: no such folder")
        self._check_apart([*folders, *((("--own", self.own),) if self.own else ())])
        if self.teacher is not None and self.teacher.suffix != ".keras":
            raise ValueError(f"--teacher {self.teacher}: must be a .keras file with its .json")
        if self.teacher is not None and not self.teacher.is_file():
            raise FileNotFoundError(f"--teacher {self.teacher}: no such file")

    def _check_apart(self, folders: list[tuple[str, pathlib.Path]]) -> None:
        """Sound that is given twice would be in training and test, and what is written must not be read again."""
        for number, (option, folder) in enumerate(folders):
            path = folder.resolve()
            if path in (self.out.resolve(), *self.out.resolve().parents):
                raise ValueError(f"--out {self.out}: lies in {option} {folder}; name a folder elsewhere")
            for other, before in folders[:number]:
                if path == before.resolve() or path in before.resolve().parents or before.resolve() in path.parents:
                    raise ValueError(
                        f"{option} {folder}: is also in {other} {before}, so that sound of the test would be trained "
                        "on; give each folder once"
                    )

    @property
    def word(self) -> str:
        """The phrase as the model's class is called: its words in small letters, one blank between, no signs."""
        return wording.name_of(self.phrase)

    @property
    def hop(self) -> int:
        """Milliseconds from frame to frame."""
        return self.hop_ms or (_ESPHOME_HOP_MS if self.device == "esphome" else 20)

    @property
    def stem(self) -> str:
        """Name of the model's files."""
        return "_".join(part for part in "".join(c if c.isalnum() else " " for c in self.word).split())

    def file(self, suffix: str) -> pathlib.Path:
        """A file of the model in the folder that is written."""
        return self.out / f"{self.stem}{suffix}"

    @property
    def work(self) -> pathlib.Path:
        """What is kept between steps; nothing in it is needed once all is done."""
        return self.out / "work"

    def what_matters(self) -> dict[str, Any]:
        """All that the result depends on, by the names of options, as JSON values; not how many processes work."""
        named = {
            "phrase": self.word, "voices": list(self.voices), "spelling": list(self.spellings),
            "styles": self.styles, "voice-files": list(self.voice_files), "data": list(self.data),
            "negatives": list(self.negatives), "rooms": list(self.rooms), "noises": list(self.noises),
            "own": self.own, "network": self.network, "ensemble": self.ensemble, "bits": self.bits,
            "teacher": self.teacher, "fa-per-hour": self.fa_per_hour, "hop-ms": self.hop, "for": self.device,
            "seed": self.seed,
        }  # fmt: skip
        sizes = {name.replace("_", "-"): value for name, value in dataclasses.asdict(self.sizes).items()}
        return {name: _plain(value) for name, value in {**named, **sizes}.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, pathlib.Path):
        return str(value.resolve())
    return [_plain(one) for one in value] if isinstance(value, list) else value
