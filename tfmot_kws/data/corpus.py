# SPDX-License-Identifier: Apache-2.0
"""Lists of labelled recordings: folders of words, manifests, splits by speaker.

Nothing here decodes sound; a corpus is names and labels. Imports the standard library only.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tfmot_kws.data import splits
from tfmot_kws.data.splits import SPLITS, hash_split, split_name
from tfmot_kws.sound import files as audio

NOISE_WORDS = ("_background_noise_", "_silence_", "noise", "silence")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        path: the file.
        word: what is said, or a name like ``negatives`` or ``noise``.
        speaker: who says it; clips of one speaker share a split. "" where nobody knows.
        split: ``train``, ``dev`` or ``test``.
        start: where the word begins, in seconds, or None if unknown.
        end: where the word ends, in seconds, or None.
        kind: ``"noise"`` for recordings without speech, ``"streams"`` for long recordings with
            several words in them (measured on, never trained on), else free text.
    """

    path: str
    word: str
    speaker: str = ""
    split: str = "train"
    start: float | None = None
    end: float | None = None
    kind: str = ""

    @property
    def is_noise(self) -> bool:
        """Whether this holds no speech."""
        return self.kind == "noise" or self.word in NOISE_WORDS

    @property
    def is_stream(self) -> bool:
        """Whether one label cannot describe this."""
        return self.kind in ("stream", "streams")


@dataclasses.dataclass(frozen=True, repr=False)
class Corpus:
    """Clips, and the files that were left out.

    Attributes:
        clips: in a fixed order (that of the manifest, or by path).
        skipped: files that could not be listed, with the reason.
        notes: what to know about how the clips were split, a line each.
    """

    clips: tuple[Clip, ...]
    skipped: tuple[audio.Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Corpus: {len(self.words())} words, {self._counts()}>"

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __add__(self, other: Corpus) -> Corpus:
        notes = tuple(dict.fromkeys(self.notes + other.notes))
        return Corpus(self.clips + other.clips, self.skipped + other.skipped, notes)

    def words(self) -> dict[str, int]:
        """How many clips there are of each word, by name."""
        return dict(sorted(collections.Counter(clip.word for clip in self.clips).items()))

    def filter(
        self,
        keep: Callable[[Clip], bool] | None = None,
        *,
        words: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
    ) -> Corpus:
        """The clips for which ``keep`` holds and whose word and kind are among those given.

        Args:
            keep: says of a clip whether it stays; None keeps all.
            words: these only; None for all.
            kinds: these only; None for all.
        """
        chosen_words = None if words is None else frozenset(words)
        chosen_kinds = None if kinds is None else frozenset(kinds)
        clips = tuple(
            clip
            for clip in self.clips
            if (keep is None or keep(clip))
            and (chosen_words is None or clip.word in chosen_words)
            and (chosen_kinds is None or clip.kind in chosen_kinds)
        )
        return Corpus(clips, self.skipped, self.notes)

    def split(self, name: str) -> Corpus:
        """The clips of one split.

        Args:
            name: ``train``, ``dev`` or ``test``; ``validation`` and ``testing`` are understood.

        Raises:
            ValueError: an unknown split, or one without clips.
        """
        clips = tuple(clip for clip in self.clips if clip.split == split_name(name))
        if not clips:
            found = sorted({clip.split for clip in self.clips})
            raise ValueError(f"split {name!r}: no clips; this corpus has {found}")
        return Corpus(clips, self.skipped, self.notes)

    def _counts(self) -> str:
        speakers = {clip.speaker for clip in self.clips if clip.speaker}
        unknown = sum(not clip.speaker and not clip.is_noise for clip in self.clips)
        nobody = f", {unknown} clips of unknown speakers" if unknown else ""
        return f"{len(self.clips)} clips, {len(speakers)} speakers{nobody}, {len(self.skipped)} left out"

    def summary(self) -> str:
        """A table of clips per word and split, the count of files left out, and the notes."""
        counts = collections.Counter((clip.word, clip.split) for clip in self.clips)
        splits = [name for name in SPLITS if any(key[1] == name for key in counts)]
        words = self.words()
        width = max([len("word"), *(len(word) for word in words)])
        lines = [" ".join([f"{'word':<{width}}", *(f"{name:>7}" for name in splits)])]
        for word in words:
            numbers = (f"{counts[word, name]:>7}" for name in splits)
            lines.append(" ".join([f"{word:<{width}}", *numbers]))
        return "\n".join([*lines, self._counts(), *(f"note: {note}" for note in self.notes)])


def join_apart(parts: Sequence[Corpus]) -> Corpus:
    """Several corpora as one, in which nobody whom one of them holds out is trained on in another.

    Public sets share speakers, each with a split of its own. A clip is left out where another corpus has its speaker in
    a split that is held out further (test before dev before train); noise has no speakers. Within a corpus splits hold.

    Args:
        parts: opened each by itself; speakers are told apart by name.

    Returns:
        All clips that are left, with a note of how many are not.
    """
    place = {name: number for number, name in enumerate(SPLITS)}
    furthest: list[dict[str, int]] = []
    for part in parts:
        known: dict[str, int] = {}
        for clip in part:
            if clip.speaker and not clip.is_noise:
                known[clip.speaker] = max(place[clip.split], known.get(clip.speaker, 0))
        furthest.append(known)
    joined, dropped = Corpus(()), 0
    for number, part in enumerate(parts):
        others = [known for other, known in enumerate(furthest) if other != number]

        def stays(clip: Clip) -> bool:
            elsewhere = max((known.get(clip.speaker, 0) for known in others), default=0)  # noqa: B023
            return not clip.speaker or clip.is_noise or place[clip.split] >= elsewhere

        kept = part.filter(stays)
        dropped += len(part) - len(kept)
        joined = joined + kept
    if not dropped:
        return joined
    note = f"{dropped} clips are left out: another of the corpora holds their speakers out"
    return Corpus(joined.clips, joined.skipped, (*joined.notes, note))


def _read_list(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip())


def from_folder(
    path: str | os.PathLike, dev_percent: float = 10.0, test_percent: float = 10.0, speakers: str = "auto"
) -> Corpus:
    """A folder of words: ``path/word/*.wav``, or ``path/word/speaker/*.wav``; ``audio.EXTENSIONS`` says what is read.

    A ``validation_list.txt`` and ``testing_list.txt`` (lines of ``word/file``) are honoured. Without them, files named
    ``speaker_nohash_number`` are split by ``hash_split`` of the speaker. All others are split such that each word has
    its share of every split (``splits.in_shares``): by speaker where a folder or a rule says who speaks, else one by
    one, which ``Corpus.notes`` says. Files in ``_background_noise_`` are noise: they have no speakers and are split one
    by one, by ``hash_split`` next to files that are named as in Speech Commands.

    Args:
        path: the folder.
        dev_percent: share of ``dev``, 0..100.
        test_percent: share of ``test``, 0..100.
        speakers: who speaks: ``"auto"``, ``"folder"``, ``"prefix"``, ``"clip"`` or a regular expression with a group,
            see ``splits.Speakers``.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds no words, a share is wrong, or the rule for speakers names nobody for a file.
    """
    rule = splits.Speakers(speakers)
    splits.check_shares(dev_percent, test_percent)
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected word/*.wav|flac|ogg inside")
    files, skipped = [], []
    for folder in sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")):
        for file in _files_in(folder):
            if file.suffix.lower() in audio.EXTENSIONS:
                files.append(file)
            elif file.suffix.lower() not in (".txt", ".md", ".csv", ".json", ""):
                detail = f"extension {file.suffix!r}, expected one of {audio.EXTENSIONS}"
                skipped.append(audio.Problem(str(file), "unreadable", detail))
    if not files:
        raise ValueError(f"{root}: no sound found; expected word/*.wav|flac|ogg inside")
    dev, test = _read_list(root / "validation_list.txt"), _read_list(root / "testing_list.txt")
    places = [file.relative_to(root).as_posix() for file in files]
    words = [place.split("/")[0] for place in places]
    if not dev and not test and all(splits.is_split_name(word) for word in words):
        raise ValueError(
            f"{root}: its folders {', '.join(sorted(set(words)))} are splits, expected are words; name splits in a "
            "manifest.csv (columns path, word, split)"
        )
    spoken = [place for place, word in zip(places, words) if word not in NOISE_WORDS]
    names = dict(zip(spoken, rule.of(spoken)))
    hashed = rule.rule == "auto" and any(splits.by_name(place) for place in spoken)
    chosen: dict[str, str] = {}
    groups: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)  # what is left to share out
    for place, word in zip(places, words):
        if (dev or test) and word not in NOISE_WORDS:
            chosen[place] = "dev" if place in dev else "test" if place in test else "train"
        elif rule.rule == "auto" and (splits.by_name(place) if place in names else hashed or dev or test):
            chosen[place] = hash_split(place, dev_percent, test_percent)
        else:
            groups[word].append((place, names.get(place) or place))
    chosen |= _shared_out(groups, dev_percent, test_percent)
    clips = tuple(
        Clip(str(file), word, names.get(place, ""), chosen[place], kind="noise" if word in NOISE_WORDS else "word")
        for file, place, word in zip(files, places, words)
    )
    unknown = [(word, place) for word, places in groups.items() for place, name in places if name == place]
    return Corpus(clips, tuple(skipped), _notes(unknown))


def _files_in(folder: Path) -> list[Path]:
    """All files of a folder and of those below it, without hidden ones; those of the folder itself first."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(
            name for name in folders if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in seen
        )
        found += [Path(place, name) for name in sorted(names) if name[0] != "."]
    return [file for file in found if file.is_file()]


def _shared_out(
    groups: dict[str, list[tuple[str, str]]], dev_percent: float = 10.0, test_percent: float = 10.0
) -> dict[str, str]:
    """The split of each place; ``groups`` has the (place, speaker) of each word."""
    names = {word: [name for _, name in pairs] for word, pairs in groups.items()}
    split_of = splits.in_shares(names, dev_percent, test_percent)
    return {place: split_of[name] for pairs in groups.values() for place, name in pairs}


def _notes(unknown: list[tuple[str, str]]) -> tuple[str, ...]:
    """What is to be said of (word, place) of clips whose speakers nobody knows; noise has none."""
    spoken = [pair for pair in unknown if pair[0] not in NOISE_WORDS]
    return (splits.unknown_note(spoken),) if spoken else ()


def from_manifest(path: str | os.PathLike, speakers: str = "auto") -> Corpus:
    """A table of clips: a CSV file with a header line.

    Columns: ``path`` (relative to the manifest) and ``word`` (the kind where empty); optional ``speaker``, ``kind``,
    ``split``, ``word_start`` and ``word_end`` in seconds. Others are ignored. Rows that make no sense or whose file is
    missing are counted as skipped.

    A row without a split gets it by ``hash_split`` of the speaker, or of the file's name where there is no speaker,
    which ``Corpus.notes`` says. Where a rule for speakers is named, it gives rows without a speaker one, and rows
    without a split are shared out as those of folders are (``splits.in_shares``); ``"clip"`` passes over the column.

    Args:
        path: the file, or the folder that holds ``manifest.csv``.
        speakers: who speaks where the column ``speaker`` says nothing, as in ``from_folder``; a regular expression
            is searched in the column ``path``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a needed column is missing, no row is usable, or the rule for speakers names nobody for a file.
    """
    rule = splits.Speakers(speakers)
    path = Path(path)
    path = path / "manifest.csv" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    clips, places, skipped = [], [], []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(_lines(stream, path))
        missing = {"path", "word"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: columns {sorted(missing)} missing; found {reader.fieldnames}")
        for row in reader:
            try:
                clips.append(_clip_of_row(path.parent, row))
                places.append(Path(row["path"]).as_posix())
            except (ValueError, OSError) as error:
                file = str(path.parent / (row.get("path") or f"line {reader.line_num}"))
                skipped.append(audio.Problem(file, "unreadable", str(error)))
    if not clips:
        why = f"; the first is {skipped[0].path}: {skipped[0].detail}" if skipped else ""
        raise ValueError(f"{path}: no usable row ({len(skipped)} left out{why})")
    clips, unknown = _with_splits(clips, places, rule)
    return Corpus(tuple(clips), tuple(skipped), _notes(unknown))


def _lines(stream: Iterable[str], path: Path) -> Iterator[str]:
    """The lines of a table; ValueError where it is none."""
    try:
        for line in stream:
            if "\0" in line:
                raise ValueError(f"{path}: is no CSV file in UTF-8: there are zeros in it")
            yield line
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no CSV file in UTF-8 ({error}); save it so") from error


def _with_splits(
    clips: list[Clip], places: list[str], rule: splits.Speakers
) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Clips of a manifest with a split each, and (word, place) of those that only their file's name has split."""
    if rule.rule == "clip":  # nobody is known, as in folders: what the column says would keep voices together
        clips = [dataclasses.replace(clip, speaker="") for clip in clips]
    unnamed = [i for i, clip in enumerate(clips) if not clip.speaker and not clip.is_noise]
    if rule.rule == "auto":  # folders of a manifest may mean anything
        unnamed = [i for i in unnamed if splits.by_name(places[i])]
    for i, name in zip(unnamed, rule.of([places[i] for i in unnamed])):
        clips[i] = dataclasses.replace(clips[i], speaker=name)
    unsplit = [i for i, clip in enumerate(clips) if not clip.split]
    unknown = [(clips[i].word, places[i]) for i in unsplit if not clips[i].speaker and not clips[i].is_noise]
    if rule.rule == "auto":
        chosen = {i: hash_split(clips[i].speaker or os.path.basename(places[i])) for i in unsplit}
    else:
        groups: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
        for i in unsplit:
            groups[clips[i].word].append((str(i), clips[i].speaker or places[i]))
        chosen = {int(i): split for i, split in _shared_out(groups).items()}
    return [dataclasses.replace(clip, split=chosen.get(i, clip.split)) for i, clip in enumerate(clips)], unknown


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip() else None


def _clip_of_row(root: Path, row: dict[str, str]) -> Clip:
    """The clip of a row; its split is "" where the row has none."""
    kind = row.get("kind") or "word"
    if not row["path"] or not (row["word"] or row.get("kind")):
        raise ValueError("no path, or neither word nor kind, in this row")
    file = root / row["path"]
    if not file.is_file():
        raise FileNotFoundError("no such file")
    start, end = _seconds(row.get("word_start")), _seconds(row.get("word_end"))
    if (start is None) != (end is None) or (start is not None and not 0 <= start < end):
        raise ValueError(f"word_start={start}, word_end={end}: must be 0 <= start < end")
    split = split_name(row["split"]) if row.get("split") else ""
    return Clip(str(file), row["word"] or kind, row.get("speaker") or "", split, start, end, kind)
