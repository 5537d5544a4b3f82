"""The ablation's pictures: open drawings with names, one file, split by concept and by style.

Trained on: emoji in four styles, Open Clip Art, furniture icons. Never trained on: a fifth of the emoji concepts (in
every style), one drawing of a fifth of the other concepts, a share of the other captions, and OpenMoji as a whole.
Country flags are left out: a new one cannot be named from others.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from midsight.data.build import BUILDS, build
from midsight.data.datasets import open_dataset
from midsight.data.loader import decode_image
from midsight.data.packaged import emoji_key
from midsight.data.packages import fetch
from midsight.data.resident import Resident
from midsight.data.samples import Sample
from midsight.data.stream import Order
from midsight.errors import InputError
from midsight.files import atomic_write
from midsight.transforms.image import resize_pixels

SIDE = 112  # pixels: the largest resolution of the recipes
QUALITY = 85  # of WebP
NEW_CONCEPTS, NEW_DRAWINGS, NEW_CAPTIONS = 0.2, 0.2, 0.15  # shares that are held out
KEYWORDS = 4  # of every second caption
FLAGS = "country-flag"


@dataclass(frozen=True)
class Record:
    """One picture. `split` is "train", "val" (a drawing of a trained concept), "new" (a concept that is not trained),
    "openmoji" (trained concept, unseen style), "openmoji-new", or "pairs" (other captions that are not trained)."""

    key: str
    split: str
    name: str
    caption: str
    group: str = ""  # emoji subgroup


@dataclass(frozen=True)
class Pictures:
    """All pictures of the file in memory."""

    records: tuple[Record, ...]
    pixels: Tensor  # uint8 (N, 3, SIDE, SIDE)

    def of(self, *splits: str, grouped: bool = False) -> "Pictures":
        """Those of some splits; `grouped` takes emoji alone."""
        rows = [i for i, r in enumerate(self.records) if r.split in splits and (r.group or not grouped)]
        return Pictures(tuple(self.records[i] for i in rows), self.pixels[rows])

    def resident(self) -> Resident:
        """What is trained on."""
        train = self.of("train")
        captions, keys = zip(*((r.caption, r.key) for r in train.records), strict=True)
        return Resident(train.pixels, captions, keys, {})


def pack(path: Path, work: Path) -> None:
    """Builds the shards where they are missing and writes the file.

    Args:
        path: of the file, about 20 MB.
        work: where packages are downloaded and shards are built.

    Raises:
        InputError, MissingDependencyError: packages that cannot be had.
    """
    concepts, rows = _concepts(work / "packages"), []
    for kind in BUILDS:
        build(kind, work / kind, work / "packages", evaluation=kind == "open-moji")
        rows += list(_records(kind, work / kind, concepts))
    write(path, split(rows))


def write(path: Path, rows: Sequence[tuple[Record, bytes]]) -> None:
    """Records and encoded pictures as one file."""
    records = json.dumps([asdict(record) for record, _ in rows], ensure_ascii=False).encode()
    ends = np.cumsum([len(data) for _, data in rows])
    with atomic_write(path) as file:
        np.savez(
            file,
            records=np.frombuffer(records, np.uint8),
            ends=ends,
            pictures=np.frombuffer(b"".join(data for _, data in rows), np.uint8),
        )


def read(path: Path) -> Pictures:
    """The file, decoded.

    Raises:
        InputError: it is missing or of another kind.
    """
    records, parts = encoded(path)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(part.tobytes())).convert("RGB")) for part in parts])
    return Pictures(tuple(records), torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())


def encoded(path: Path) -> tuple[list[Record], list[np.ndarray]]:
    """The file as it is, for a look at whether it is there and sound.

    Raises:
        InputError: it is missing or of another kind.
    """
    try:
        with np.load(path) as file:
            records = [Record(**record) for record in json.loads(file["records"].tobytes())]
            return records, np.split(file["pictures"], file["ends"][:-1])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the ablation's pictures ({error}); make them with --build") from error


def split(rows: Sequence[tuple[Record, bytes]]) -> list[tuple[Record, bytes]]:
    """Gives every record its split, by keys and names alone, so that it never changes."""
    styles: dict[str, list[str]] = {}
    for record, _ in rows:
        if _kind(record) == "emoji":
            styles.setdefault(record.name, []).append(record.key)
    return [(replace(record, split=_place(record, styles)), data) for record, data in rows]


def _place(record: Record, styles: Mapping[str, Sequence[str]]) -> str:
    kind, name = _kind(record), record.name
    if kind not in ("emoji", "open-moji"):
        return "pairs" if _held_out(name, NEW_CAPTIONS) else "train"
    new = _held_out(name, NEW_CONCEPTS)
    if kind == "open-moji":
        return "openmoji-new" if new else "openmoji"
    drawings = sorted(styles[name])
    chosen = drawings[int(_share(f"which {name}") * len(drawings))]
    apart = len(drawings) > 2 and record.key == chosen and _held_out(f"drawing {name}", NEW_DRAWINGS)
    return "new" if new else "val" if apart else "train"


def _kind(record: Record) -> str:
    return record.key.partition("/")[0]


def _held_out(text: str, share: float) -> bool:
    return _share(text) < share


def _share(text: str) -> float:
    """A number from 0 to 1 that the text decides."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def _samples(folder: Path) -> Iterator[Sample]:
    return iter(open_dataset(folder, evaluation=True).samples(Order(shuffle=False), epochs=1))


def _concepts(packages: Path) -> dict[str, tuple[str, str]]:
    """Code point sequence, and name, -> name and subgroup of every emoji but country flags."""
    entries = json.loads((fetch("emoji-datasource-google", packages) / "package/emoji.json").read_text("utf-8"))
    groups = {emoji_key(entry["unified"]): entry["subcategory"] for entry in entries}
    entries = json.loads((fetch("emojibase-data", packages) / "package/en/data.json").read_text("utf-8"))
    labels = {emoji_key(entry["hexcode"]): entry["label"].replace(":", "") for entry in entries}
    found = {code: (name, groups[code]) for code, name in labels.items() if groups.get(code, FLAGS) != FLAGS}
    return found | {name: (name, group) for name, group in found.values()}


def _records(kind: str, folder: Path, concepts: Mapping[str, tuple[str, str]]) -> Iterator[tuple[Record, bytes]]:
    """Records without a split; OpenMoji gets the names of the trained styles."""
    for sample in open_dataset(folder, evaluation=True).samples(Order(shuffle=False), epochs=1):
        name, group = sample.caption, ""
        if kind in ("emoji", "open-moji"):
            code = emoji_key(sample.key.split("-", 3)[-1]) if kind == "open-moji" else name
            if code not in concepts:
                continue
            name, group = concepts[code]
        yield Record(f"{kind}/{sample.key}", "", name, _caption(sample, name), group), _encoded(sample)


def _encoded(sample: Sample) -> bytes:
    pixels = resize_pixels(decode_image(sample), SIDE, SIDE).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def _caption(sample: Sample, name: str) -> str:
    """The name; every second time with keywords behind it."""
    words = [word for word in sample.facts.get("keywords", ()) if word][:KEYWORDS]
    return f"{name}: {', '.join(words)}" if words and _share(f"caption {sample.key}") < 0.5 else name
