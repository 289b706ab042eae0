# SPDX-License-Identifier: Apache-2.0
"""Public sets of sound: where they are, how large, under which licence, what for; and fetching them.

Licences, sizes and checksums are repeated from code and pages that use the sets; what a set's own page says counts.
Where no checksum is known, the size is checked and the hash of what came is written down beside it (``fetched.json``),
to compare with another time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmot_kws import atomic
from tfmot_kws.sound import download

RECORD = "fetched.json"
"""What was fetched into a folder: address, size and SHA-256 of each archive."""
_OPENSLR = "https://www.openslr.org/resources"
_MICRO = "https://huggingface.co/datasets/kahrendt/microwakeword/resolve/main"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file of a set.

    Attributes:
        url: where from.
        size: bytes.
        checksum: ``"sha256:..."``, ``"sha1:..."`` or ``"md5:..."``, None where none is known.
        exact: whether the size is that of the file to the byte, so that another one is an error.
    """

    url: str
    size: int
    checksum: str | None = None
    exact: bool = True

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Where it is unpacked to, within the folder of the set."""
        return self.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".zip")


@dataclasses.dataclass(frozen=True)
class PublicSet:
    """A public set.

    Attributes:
        name: to ask for it by.
        about: what it is.
        use: what it is good for here.
        licence: as others repeat it; its page counts.
        page: where its authors describe it.
        archives: what is downloaded.
        unpacked: bytes on the disk beside the archives, about.
        checked_by: whose checksums they are, "" where there are none.
    """

    name: str
    about: str
    use: str
    licence: str
    page: str
    archives: tuple[Archive, ...]
    unpacked: int
    checked_by: str = ""

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(archive.size for archive in self.archives)

    def statement(self) -> str:
        """What is downloaded, from where, and under which licence: to be read before it is."""
        lines = [f"{self.name}: {self.about}", f"  for      {self.use}", f"  licence  {self.licence}"]
        lines += [f"  page     {self.page}"]
        lines += [f"  from     {archive.url} ({megabytes(archive.size)})" for archive in self.archives]
        exact = all(archive.exact for archive in self.archives)
        without = f"no checksum is known; {'by size' if exact else 'not even the size is promised'}"
        checks = f"checksum of {self.checked_by}" if self.checked_by else without
        return "\n".join([*lines, f"  checked  {checks}", f"  unpacked about {megabytes(self.unpacked)} more"])


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _librispeech(part: str, hours: str, size: int, md5: str) -> PublicSet:
    return PublicSet(
        f"librispeech-{part}",
        f"LibriSpeech {part}: {hours} hours of read English, FLAC (Panayotov et al. 2015)",
        "speech without the wake word: negatives (train --mine, evaluate --negatives)",
        "CC BY 4.0",
        "https://www.openslr.org/12",
        (Archive(f"{_OPENSLR}/12/{part}.tar.gz", size, f"md5:{md5}"),),
        size,
        "OpenSLR",
    )


SETS: Mapping[str, PublicSet] = {
    item.name: item
    for item in (
        PublicSet(
            "speech-commands",
            "Speech Commands v0.02: 105,829 clips of 35 words by 2,618 people (Warden 2018)",
            "training words, and other words for a wake word (train --data)",
            "CC BY 4.0",
            "https://arxiv.org/abs/1804.03209",
            (Archive(download.SPEECH_COMMANDS_URL, 2_428_923_189, download.SPEECH_COMMANDS_HASH),),
            3_800_000_000,
            "others who have it; its authors state none",
        ),
        _librispeech("dev-clean", "5", 337_926_286, "42e2234ba48799c1f50f24a7926300a1"),
        _librispeech("test-clean", "5", 346_663_984, "32fa31d27d2e1cad72775fee3f4849a9"),
        _librispeech("train-clean-100", "100", 6_387_309_499, "2a93770f6d5c6c964bc36631d331a522"),
        PublicSet(
            "musan",
            "MUSAN: 109 hours of music, speech and noise (Snyder et al. 2015)",
            "noise and music behind words, and long negatives (train --mine)",
            "CC BY 4.0 and public domain, file by file: see its LICENSE files",
            "https://www.openslr.org/17",
            (Archive(f"{_OPENSLR}/17/musan.tar.gz", 11_086_114_085, "md5:0c472d4fc0c5141eca47ad1ffeb2a7df"),),
            12_000_000_000,
            "OpenSLR",
        ),
        PublicSet(
            "esc-50",
            "ESC-50: 2,000 sounds of 5 s in 50 classes (Piczak 2015)",
            "sounds of rooms and streets as noise",
            "CC BY-NC 3.0: not for commercial use",
            "https://github.com/karolpiczak/ESC-50",
            # GitHub makes this archive anew when it is asked for: neither its size nor its bytes are promised.
            (Archive("https://github.com/karolpiczak/ESC-50/archive/master.zip", 645_000_000, exact=False),),
            900_000_000,
        ),
        PublicSet(
            "fma-small",
            "FMA small: 8,000 pieces of music of 30 s, MP3 (Defferrard et al. 2017)",
            "music behind words, and long negatives",
            "each track under the licence of its artist (Creative Commons); metadata CC BY 4.0",
            "https://github.com/mdeff/fma",
            (
                Archive(
                    "https://os.unil.cloud.switch.ch/fma/fma_small.zip",
                    7_679_594_875,
                    "sha1:ade154f733639d52e35e32f5593efe5be76c6d70",
                ),
            ),
            7_700_000_000,
            "its authors",
        ),
        PublicSet(
            "mit-rooms",
            "MIT's survey of rooms: 271 impulse responses (Traer and McDermott 2016)",
            "echoes of real rooms",
            "none is stated by its authors; ask them before you pass anything on",
            "https://mcdermottlab.mit.edu/Reverb/IR_Survey.html",
            (Archive("https://mcdermottlab.mit.edu/Reverb/IRMAudio/Audio.zip", 11_660_005, exact=False),),
            20_000_000,
        ),
        PublicSet(
            "microwakeword",
            "microWakeWord's spectrograms of speech, dinner parties and noise (Ahrendt 2024)",
            "negatives as features of the micro front end (10 ms hop); not sound, train --data does not read them",
            "as its page states it; it was made of sets under licences of their own",
            "https://huggingface.co/datasets/kahrendt/microwakeword",
            (
                Archive(f"{_MICRO}/dinner_party.zip", 444_310_142),
                Archive(f"{_MICRO}/dinner_party_eval.zip", 82_329_019),
                Archive(f"{_MICRO}/no_speech.zip", 2_000_317_854),
                Archive(f"{_MICRO}/speech.zip", 3_183_001_091),
            ),
            12_000_000_000,
        ),
    )
}
"""Sets by name."""


def find(names: Sequence[str]) -> list[PublicSet]:
    """The sets of these names.

    Raises:
        ValueError: a name that is none; the message has those that there are.
    """
    for name in names:
        if name not in SETS:
            raise ValueError(f"no public set is called {name!r}; known are {', '.join(SETS)}")
    return [SETS[name] for name in dict.fromkeys(names)]


def check_space(sets: Sequence[PublicSet], folder: Path) -> None:
    """Raises OSError where the disk has not the room for archives and what is unpacked of them, or is no folder."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise NotADirectoryError(f"{place}: is a file; name a folder")
    free, needed = shutil.disk_usage(place).free, 0
    for item in sets:
        for archive in item.archives:
            target = folder / item.name
            if not (target / archive.folder).is_dir():
                there = [target / archive.name, target / f"{archive.name}.part"]
                needed += max(archive.size - sum(path.stat().st_size for path in there if path.is_file()), 0)
                needed += item.unpacked // len(item.archives)
    if free < needed:
        raise OSError(f"{folder}: needs {megabytes(needed)}, the disk has {megabytes(free)}; name a folder elsewhere")


def fetch(
    item: PublicSet,
    folder: str | os.PathLike,
    keep_archives: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Downloads, checks and unpacks a set into ``folder/name``; what is there already is not fetched again.

    A transfer that was cut goes on where it stopped, by HTTP ranges; a server that has none is read from the start.

    Args:
        item: one of ``SETS``, or one of your own.
        folder: of all sets; made where missing.
        keep_archives: leaves the archives beside what was unpacked of them.
        progress: called with (bytes, bytes in all) of the archive that is being downloaded.

    Returns:
        The folder of the set.

    Raises:
        ValueError: a checksum or a size differs, or an archive is damaged; nothing of it is kept then.
        requests.RequestException: the transfer failed; call again to go on.
        OSError: the disk has no room, before anything is downloaded.
    """
    target = Path(folder) / item.name
    check_space([item], Path(folder))
    known = _recorded(target / RECORD)
    with download.no_empty_folder(target):
        _fetch_archives(item, target, known, keep_archives, progress)
    return target


def _recorded(record: Path) -> dict[str, Any]:
    """What was fetched before."""
    if not record.is_file():
        return {}
    return atomic.read_table(record, "remove it, what was unpacked stays")


def _fetch_archives(
    item: PublicSet,
    target: Path,
    known: dict[str, Any],
    keep_archives: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    for archive in item.archives:
        if (target / archive.folder).is_dir():
            continue
        path = download.fetch(archive.url, archive.checksum, target, progress)
        size = path.stat().st_size
        if archive.exact and size != archive.size:
            path.unlink()
            raise ValueError(
                f"{archive.url}: {size} bytes came, expected {archive.size}; it was changed, or an error page came in "
                "its place: look at its page"
            )
        try:
            download.unpack(path, target / archive.folder)
        except ValueError:
            path.unlink()  # or it would be taken for whole the next time
            raise
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        known[archive.name] = {"url": archive.url, "size": size, "sha256": digest.hexdigest()}
        atomic.write_json(target / RECORD, known)
        if not keep_archives:
            path.unlink()
