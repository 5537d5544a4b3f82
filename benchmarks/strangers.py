"""Questions about pages by somebody who did not know our generator: `benchmarks/pages/`, written by hand.

Part of `python -m benchmarks.documents strangers WORK`: each page is rendered by Chromium, made worse as scanners do,
and kept below WORK, with the fonts (Debian packages, downloaded once) and every answer (`answers_PART.jsonl`).

People may look at the pages of the part `choose` to improve the program. Those of `kept` only measure.
"""

import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.common import cpu_seconds
from benchmarks.documents import Example, anls, ways_to_answer

FOLDER = Path(__file__).with_name("pages")
PARTS = ("choose", "kept")
FONTS = (  # Debian packages; a page that asks for a font that is missing would not look as its author saw it
    "fonts-comic-neue", "fonts-courier-prime", "fonts-crosextra-caladea", "fonts-crosextra-carlito",
    "fonts-dancingscript", "fonts-dkg-handwriting", "fonts-ebgaramond",
    "fonts-gnutypewriter", "fonts-humor-sans", "fonts-lato", "fonts-liberation", "fonts-linuxlibertine",
    "fonts-inconsolata", "fonts-ocr-b", "fonts-open-sans", "fonts-roboto-unhinted",
)  # fmt: skip
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page brings everything with it
)  # fmt: skip
ROUNDS = 2000  # of the bootstrap
DAMAGES = ("none", "jpeg", "rotate", "noise", "blur")
JPEG_QUALITY = 40
MOST_DEGREES = 1.5


@dataclass(frozen=True)
class Render:
    """How a page becomes a picture: CSS pixels across, picture pixels for each of them, and what a scanner did."""

    width: int
    scale: float
    damage: str = "none"

    def __post_init__(self) -> None:
        if self.damage not in DAMAGES:
            raise ValueError(f"damage {self.damage!r} is not one of {', '.join(DAMAGES)}")


@dataclass(frozen=True)
class Score:
    """How an answer did; whole pages are drawn by the bootstrap."""

    page: str
    kind: str  # of the question
    anls: float
    held: bool  # an accepted answer stands in it, as whole words


def read_renders() -> dict[str, Render]:
    """How each page is rendered, by its file name."""
    return {name: Render(**given) for name, given in json.loads((FOLDER / "pages.json").read_text()).items()}


def read_questions(part: str, pictures: Path) -> list[Example]:
    """The questions of a part, in the order of their file; `layout` is the page's name without its ending."""
    rows = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text().splitlines()]
    return [
        Example(
            str(pictures / f"{Path(row['page']).stem}.png"),
            Path(row["page"]).stem,
            row["kind"],
            row["question"],
            tuple(row["answers"]),
            (),
        )
        for row in rows
        if row["part"] == part
    ]


def render_all(work: Path, names: Iterable[str]) -> Path:
    """The folder of the pictures, below `work`; only pages that changed since are rendered anew."""
    renders, pictures = read_renders(), work / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    stale = [name for name in names if not _is_fresh(name, renders[name], pictures)]
    if stale:
        with browser(work) as driver:
            for name in stale:
                image = damaged(screenshot(driver, FOLDER / name, renders[name]), renders[name].damage, name)
                image.save(pictures / f"{Path(name).stem}.png")
                (pictures / f"{Path(name).stem}.key").write_text(_key(name, renders[name]))
    return pictures


def _is_fresh(name: str, render: Render, pictures: Path) -> bool:
    key, picture = (pictures / f"{Path(name).stem}{ending}" for ending in (".key", ".png"))
    return picture.exists() and key.exists() and key.read_text() == _key(name, render)


def _key(name: str, render: Render) -> str:
    """Changes with whatever decides how the picture looks."""
    made_by = (inspect.getsource(function) for function in (browser, fonts, screenshot, damaged))
    parts = ((FOLDER / name).read_text(), json.dumps(asdict(render)), *FONTS, *OPTIONS, *made_by)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextmanager
def browser(work: Path) -> Iterator[Any]:
    """Chromium without a window or a network, which sees the fonts below `work` beside the system's."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if not chromium:
        raise RuntimeError("chromium is missing, which renders the pages: `make chromium`")
    seen = os.environ | {"FONTCONFIG_FILE": str(fonts(work))}
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS), env=seen)
        try:
            yield started
        finally:
            started.close()


def fonts(work: Path) -> Path:
    """The fontconfig file that adds the packages of FONTS, which are downloaded below `work` the first time."""
    folder, file = (work / "fonts").resolve(), (work / "fonts.conf").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in FONTS if not any(folder.glob(f"{package}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", *missing], cwd=folder, check=True, capture_output=True)
    for archive in folder.glob("*.deb"):
        if not (folder / archive.stem).exists():
            subprocess.run(["dpkg-deb", "-x", str(archive), str(folder / archive.stem)], check=True)
    places = "".join(f"<dir>{place}</dir>" for place in sorted(folder.glob("*/usr/share/fonts")))  # beside: web fonts
    file.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<include>/etc/fonts/fonts.conf</include>{places}<cachedir>{folder / 'cache'}</cachedir></fontconfig>"
    )
    return file


def screenshot(driver: Any, page: Path, render: Render) -> Image.Image:
    """The whole page, however tall, as an RGB picture."""
    size = {"width": render.width, "height": 200}
    with driver.new_page(viewport=size, device_scale_factor=render.scale) as tab:
        tab.goto(page.resolve().as_uri())
        data = tab.screenshot(full_page=True)
    return Image.open(BytesIO(data)).convert("RGB")


def damaged(image: Image.Image, damage: str, name: str) -> Image.Image:
    """The picture as a scanner, a copier or a phone would have it; the same for the same name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if damage == "jpeg":
        held = BytesIO()
        image.save(held, "JPEG", quality=JPEG_QUALITY)
        return Image.open(held).convert("RGB")
    if damage == "rotate":
        angle = rng.uniform(0.5, MOST_DEGREES) * rng.choice((-1, 1))
        return image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    if damage == "noise":  # a grey copy: specks, uneven toner, less contrast
        grey = np.asarray(image.convert("L"), np.float32)
        grey = 35 + grey * 0.8 + rng.normal(0, 14, grey.shape)
        specks = rng.random(grey.shape)
        grey[specks < 0.001], grey[specks > 0.999] = 40, 245
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if damage == "blur":
        return image.filter(ImageFilter.GaussianBlur(1.0))
    return image


def measure(work: Path, parts: Sequence[str] = PARTS) -> str:
    """The tables, one for each part, and beside them `work`/answers_PART.jsonl."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"part {unknown[0]!r} is not one of {', '.join(PARTS)}")
    asked = {part: read_questions(part, work / "pictures") for part in parts}
    render_all(work, sorted({f"{example.layout}.html" for part in parts for example in asked[part]}))
    ways = ways_to_answer()
    return "\n\n".join(measure_part(part, asked[part], ways, work) for part in parts)


def measure_part(part: str, asked: Sequence[Example], ways: dict[str, Callable[[Example], Any]], work: Path) -> str:
    """The table of one part. Its answers are kept for people to read; of `kept`, only how they did."""
    rows = ["| Way | ANLS | holds the answer | by kind of question (ANLS) | CPU seconds |", "|---|---|---|---|---|"]
    lines: list[dict[str, Any]] = [{"page": example.layout} for example in asked]
    if part != "kept":
        lines = [
            {"page": e.layout, "question": e.question, "accepted": e.answers, "kind": e.kind, "ways": {}} for e in asked
        ]
    found = work / f"answers_{part}.jsonl"
    for name, way in ways.items():
        start, scores = cpu_seconds(), []
        for example, line in zip(asked, lines, strict=True):
            text = _answer(way, example)
            scores.append(score(text, example))
            told = {"anls": round(scores[-1].anls, 3), "held": scores[-1].held}
            line.setdefault("ways", {})[name] = told if part == "kept" else {"answer": text} | told
            found.write_text("".join(json.dumps(line) + "\n" for line in lines))  # so that it can be read on the way
        rows.append(_row(name, scores, cpu_seconds() - start))
        print(rows[-1], flush=True)
    pages = len({example.layout for example in asked})
    return "\n".join([*rows, "", f"Part {part}: {len(asked)} questions about {pages} pages."])


def _answer(way: Callable[[Example], Any], example: Example) -> str:
    try:
        reply = way(example)
    except Exception as error:  # a failure is a wrong answer, and is seen
        print(f"{example.picture}: {error}", file=sys.stderr)
        return ""
    return reply if isinstance(reply, str) else reply.answer


def score(text: str, example: Example) -> Score:
    """How an answer compares with those accepted."""
    held = any(stands_in(text, right) for right in example.answers)
    return Score(example.layout, example.kind, anls(text.strip().rstrip("."), example.answers), held)


def stands_in(text: str, right: str) -> bool:
    """Whether words stand in a text as a whole: "no" not in "not stated", 3 neither in 13 nor in 3.50."""
    return bool(re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(right)}(?!\w)(?![.,]\d)", text, re.IGNORECASE))


def _row(name: str, scores: Sequence[Score], seconds: float) -> str:
    kinds = defaultdict(list)
    for found in scores:
        kinds[found.kind].append(found.anls)
    told = ", ".join(f"{kind} {np.mean(found):.2f} ({len(found)})" for kind, found in sorted(kinds.items()))
    whole = _with_interval([(found.page, found.anls) for found in scores])
    held = _with_interval([(found.page, float(found.held)) for found in scores])
    return f"| {name} | {whole} | {held} | {told} | {seconds / len(scores):.1f} |"


def _with_interval(values: Sequence[tuple[str, float]]) -> str:
    low, high = interval(values)
    return f"{np.mean([value for _, value in values]):.3f} ({low:.3f}-{high:.3f})"


def interval(values: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """95% of the mean of (page, value), from drawing whole pages: the questions of a page share its luck."""
    pages = defaultdict(list)
    for page, value in values:
        pages[page].append(value)
    sums, sizes = (np.array([f(found) for found in pages.values()], float) for f in (sum, len))
    drawn = np.random.default_rng(0).integers(len(pages), size=(ROUNDS, len(pages)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    return tuple(np.percentile(means, (2.5, 97.5)))
