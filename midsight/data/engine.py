"""The video data engine: captions of frames and clips by any captioner, merged to a short one, edited by people.

Two steps. `caption_clips` asks the captioner, which is slow: it keeps a journal, and a stopped run goes on with it.
`write_captioned` merges, applies the edits and writes shards in the published layout of the PE Video Dataset, which is
quick and repeated whenever edits or the way of merging change.

Source: PE paper, section 2.2 and A.1.
"""

import importlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from midsight.data.datasets import Dataset
from midsight.data.loader import read_clip
from midsight.data.merging import MAX_WORDS, Merge, Words, merge_by_rule
from midsight.data.samples import Sample, plain_caption
from midsight.data.shards import ShardWriter, json_bytes, safe_key
from midsight.data.stream import Item, Order
from midsight.errors import ConfigError, InputError, MediaError, MidsightError, OutputError
from midsight.files import Journal, atomic_write
from midsight.video import Clip

SHARD = "clips-{:06d}.tar"


class Captioner(Protocol):
    """Says what is to be seen. An error of midsight that it raises leaves the clip out; any other ends the run."""

    @property
    def name(self) -> str:
        """Names it and its version: captions of another one are not mixed in."""

    def frames(self, sample: Sample, clip: Clip) -> Sequence[str]:
        """One caption for each of the T frames."""

    def clip(self, sample: Sample, clip: Clip) -> str:
        """What happens."""


@dataclass(frozen=True)
class SceneTruth:
    """Captions of rendered scenes out of their own records."""

    name: str = "scene truth"

    def frames(self, sample: Sample, clip: Clip) -> Sequence[str]:
        """The shortest caption, which says what is there."""
        return [self._captions(sample)[0]] * len(clip.frames)

    def clip(self, sample: Sample, clip: Clip) -> str:
        """The fullest caption, which says what happens."""
        return self._captions(sample)[-1]

    @staticmethod
    def _captions(sample: Sample) -> list[str]:
        captions = sample.facts.get("captions")
        if not isinstance(captions, list) or not captions or not all(isinstance(c, str) for c in captions):
            raise InputError(f"{sample.key}: its record has no captions. Expected a clip of the scene engine.")
        return captions


def find_captioner(name: str) -> Captioner:
    """`scenes`, or an object by MODULE:NAME; a class is called without arguments.

    Raises:
        InputError: there is no such module or object.
    """
    if name == "scenes":
        return SceneTruth()
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{name!r}: no such captioner ({error}). Expected scenes or MODULE:NAME.") from error
    captioner: Captioner = found() if isinstance(found, type) else found
    return captioner


@dataclass(frozen=True)
class Captioned:
    """What a run made."""

    shards: tuple[Path, ...]
    samples: int
    edited: int  # captions that people wrote
    removed: int  # clips that people took out
    unused_edits: tuple[str, ...] = ()  # keys that no clip has


def caption_clips(
    dataset: Dataset,
    captioner: Captioner,
    journal: Path,
    *,
    num_frames: int = 8,
    progress: Callable[[int], None] | None = None,
) -> tuple[Counter[str], dict[str, str]]:
    """Asks the captioner about every clip that the journal does not have.

    Args:
        dataset: opened with `needs_captions=False`.
        captioner: see `Captioner`.
        journal: file of what was said.
        progress: called with the number of clips done.

    Returns:
        What was left out: number by reason, and an example of each.

    Raises:
        ConfigError: fewer than 2 frames.
        OutputError: the disk is full, or the journal is of another data set, captioner or number of frames.
        UnusableError: no clip can be used.
    """
    if num_frames < 2:
        raise ConfigError(f"num_frames must be at least 2, got {num_frames}")
    with Journal(journal) as record:
        done = _begin(record, dataset, captioner, num_frames)

        def prepare(item: Item) -> tuple[Sample, Clip | None]:
            sample = item.read()
            return sample, None if sample.key in done else read_clip(sample, num_frames)

        stream = dataset.stream(prepare, Order(shuffle=False), epochs=1)
        failed: Counter[str] = Counter()
        for sample, clip in stream:
            if clip is not None:
                try:
                    record.append(_asked(captioner, sample, clip))
                except OutputError:
                    raise
                except MidsightError as error:
                    failed["no caption"] += 1
                    stream.examples.setdefault("no caption", str(error))
            if progress is not None:
                progress(stream.taken)
        return stream.skipped + failed, stream.examples


def write_captioned(
    dataset: Dataset,
    journal: Path,
    out: Path,
    *,
    merge: Merge = merge_by_rule,
    edits: Path | None = None,
    per_shard: int = 500,
    max_words: int = MAX_WORDS,
) -> Captioned:
    """Shards of the clips that the journal has, in the published layout: the video as it came, and a `.json` with
    video_id, human_caption (of an edit, else as it was), model_caption, video_duration_in_s, num_frames, and what was
    merged.

    Args:
        dataset, journal: as given to `caption_clips`.
        out: folder of the shards.
        merge: makes one caption of all that was said.
        edits: JSONL of people's edits, one for a clip: {"key": ..., "caption": ...} or {"key": ..., "remove": true}.
        per_shard: samples in each.
        max_words: of a merged caption.

    Raises:
        ConfigError: per_shard or max_words below 1.
        InputError: edits that cannot be read.
        OutputError: the disk is full, or the journal is of another data set.
    """
    if per_shard < 1 or max_words < 1:
        raise ConfigError(f"per_shard and max_words must be at least 1, got {per_shard} and {max_words}")
    said = _said(journal, dataset)
    changes = read_edits(edits) if edits is not None else {}
    out.mkdir(parents=True, exist_ok=True)
    stream = dataset.samples(Order(shuffle=False), epochs=1)
    clips = iter(_wanted(stream, said, changes))
    paths: list[Path] = []
    samples = 0
    while first := next(clips, None):
        paths.append(out / SHARD.format(len(paths)))
        with atomic_write(paths[-1]) as file, ShardWriter(file) as shard:
            for sample in itertools.chain((first,), itertools.islice(clips, per_shard - 1)):
                record = _record(sample, said[sample.key], changes.get(sample.key), merge, max_words)
                shard.add(f"{samples:08d}-{safe_key(sample.key.rsplit(':', 1)[-1])}", _files(sample, record))
                samples += 1
    for stale in set(out.glob("clips-*.tar")) - set(paths):  # of a run before more clips were taken out
        stale.unlink()
    used = [change for key, change in changes.items() if key in said]
    unused = tuple(sorted(set(changes) - set(said)))
    removed = used.count(None)
    return Captioned(tuple(paths), samples, len(used) - removed, removed, unused)


def read_edits(path: Path) -> dict[str, str | None]:
    """Key -> people's caption, or None for a clip to take out.

    Raises:
        InputError: the file cannot be read, a line is no edit, or a clip has two.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Expected JSON lines.") from error
    edits: dict[str, str | None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, change = _edit(line, f"{path}: line {number}")
        if key in edits:
            raise InputError(f"{path}: line {number} is a second edit of {key}. Keep one.")
        edits[key] = change
    return edits


def _edit(line: str, where: str) -> tuple[str, str | None]:
    try:
        edit = json.loads(line)
    except (ValueError, RecursionError):
        edit = None
    if isinstance(edit, dict) and isinstance(key := edit.get("key"), str):
        caption, removed = plain_caption(edit.get("caption")), edit.get("remove") is True
        if bool(caption) != removed:
            return key, None if removed else caption
    expected = '{"key": ..., "caption": ...} or {"key": ..., "remove": true}'
    raise InputError(f"{where} is no edit. Expected {expected}.")


def _begin(journal: Journal, dataset: Dataset, captioner: Captioner, num_frames: int) -> set[str]:
    """Keys that the journal has; a fresh one gets what it is about as its first line."""
    about = {"fingerprint": dataset.fingerprint, "captioner": captioner.name, "num_frames": num_frames}
    entries = list(journal)
    if not entries:
        journal.append(about)
    elif entries[0] != about:
        differing = ", ".join(name for name in about if entries[0].get(name) != about[name])
        raise OutputError(f"{journal.path}: of another run ({differing} differ). Name another file, or delete it.")
    return {entry["key"] for entry in entries[1:]}


def _asked(captioner: Captioner, sample: Sample, clip: Clip) -> dict[str, Any]:
    frames = tuple(plain_caption(text) for text in captioner.frames(sample, clip))
    if len(frames) != len(clip.frames):
        raise InputError(f"{captioner.name}: {len(frames)} captions for {len(clip.frames)} frames of {sample.key}.")
    title, description = (plain_caption(sample.facts.get(name)) for name in ("title", "description"))
    words = Words(plain_caption(captioner.clip(sample, clip)), frames, title, description)
    if not words.clip and not any(frames):
        raise InputError(f"{sample.key}: {captioner.name} said nothing about it.")
    seconds, count = round(clip.end - clip.start, 3), int(clip.indices[-1]) + 1  # the last frame is always taken
    return {"key": sample.key, "video_duration_in_s": seconds, "num_frames": count, **asdict(words)}


def _said(journal: Path, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The journal's records by key. In memory: texts, no media."""
    entries = list(Journal(journal))
    if not entries or entries[0].get("fingerprint") != dataset.fingerprint:
        raise OutputError(f"{journal}: holds no captions of {dataset.path} as it is now. Run caption_clips first.")
    return {entry["key"]: entry for entry in entries[1:]}


def _wanted(samples: Iterable[Sample], said: Mapping[str, Any], changes: Mapping[str, str | None]) -> Iterator[Sample]:
    for sample in samples:
        if sample.key in said and changes.get(sample.key, "") is not None:
            yield sample


def _record(sample: Sample, entry: dict[str, Any], edit: str | None, merge: Merge, max_words: int) -> dict[str, Any]:
    words = Words(entry["clip"], tuple(entry["frames"]), entry["title"], entry["description"])
    facts = {name: value for name, value in sample.facts.items() if name not in ("caption", "text")}  # now replaced
    human = edit if edit is not None else facts.get("human_caption")
    return {
        **facts,
        "video_id": sample.key, "human_caption": human, "model_caption": merge(words, max_words),
        "video_duration_in_s": entry["video_duration_in_s"], "num_frames": entry["num_frames"],
        "clip_caption": words.clip, "frame_captions": list(words.frames),
    }  # fmt: skip


def _files(sample: Sample, record: dict[str, Any]) -> dict[str, bytes]:
    """Always as `mp4`, the published ending: what is inside is told by its content."""
    try:
        media = sample.media if isinstance(sample.media, bytes) else sample.media.read_bytes()
    except OSError as error:
        raise MediaError(f"{sample.media!s}: cannot be read any more ({error.strerror or error}).") from error
    return {"mp4": media, "json": json_bytes(record)}
