"""A page on which a person decides about what was found: one HTML file, no server, nothing from any network.

Decisions stay in the browser and are downloaded as JSONL; `read_decisions` reads them, for calibration or for a new
page. The page's Content-Security-Policy names its style and script by their hashes: nothing else runs.
"""

import base64
import hashlib
import html
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from midsight.errors import InputError, MidsightError
from midsight.images import load_image
from midsight.library.moderate.labels import Labels
from midsight.library.moderate.verdicts import WORDS, Finding, Verdict, clock
from midsight.library.scan import is_video
from midsight.video import sample_frames

SIDE = 320  # pixels of a preview's longer side
_QUALITY = 75  # of its JPEG


def review_page(
    verdicts: Sequence[Verdict],
    folder: Path,
    decisions: Labels | None = None,
    *,
    passing: int = 0,
    limit: int = 1000,
    tick: Callable[[], None] = lambda: None,
) -> str:
    """The page about everything that is flagged, for review, or not readable.

    Args:
        verdicts: of `midsight moderate`; paths are taken from the current folder.
        folder: where the page will lie; links to the files are from there.
        decisions: that were taken before.
        passing: also so many files for each category that pass, those of the highest score: what may have been missed.
        limit: most cards: those of the gravest verdicts and highest scores. The page says how many are left out.
        tick: called after each file's preview.

    Raises:
        InputError: there is nothing to show.
    """
    every = sorted(_asked(verdicts, passing), key=_weight)
    if not every:
        raise InputError("every file passes, so there is nothing to review; ask for some that pass by --passing 10")
    asked = every[:limit]
    thumbs: list[str] = []
    number: dict[str, int | None] = {}
    for verdict, finding in asked:
        if verdict.path not in number:
            thumb = _thumbnail(verdict, finding)
            number[verdict.path] = None if thumb is None else len(thumbs)
            thumbs += [] if thumb is None else [thumb]
            tick()
    items = [{**_item(verdict, finding, folder), "thumb": number[verdict.path]} for verdict, finding in asked]
    taken = [
        {"path": os.path.abspath(path), "category": category, "decision": "yes" if yes else "no"}
        for path, known in (decisions or {}).items() for category, yes in known.items()
    ]  # fmt: skip
    names = json.dumps([[item["path"], item["category"]] for item in items])
    key = hashlib.sha256(names.encode()).hexdigest()[:16]
    left_out = len(every) - len(asked)
    return _filled({"key": key, "items": items, "thumbs": thumbs, "decisions": taken, "leftOut": left_out})


def _weight(question: tuple[Verdict, Finding | None]) -> tuple[int, float]:
    verdict, finding = question
    return WORDS.index(verdict.verdict if finding is None else finding.verdict), -finding.score if finding else 0.0


def _asked(verdicts: Sequence[Verdict], passing: int) -> Iterator[tuple[Verdict, Finding | None]]:
    """Each question of the page: a file, and the category in question or None where it could not be read."""
    near: dict[str, list[tuple[float, int]]] = {}
    for number, verdict in enumerate(verdicts):
        for finding in verdict.findings:
            if finding.verdict == "pass":
                near.setdefault(finding.category, []).append((-finding.score, number))
    chosen = {(name, number) for name, found in near.items() for _, number in sorted(found)[:passing]}
    for number, verdict in enumerate(verdicts):
        findings = [
            finding for finding in verdict.findings if finding.verdict != "pass" or (finding.category, number) in chosen
        ]
        yield from ((verdict, finding) for finding in findings)
        if verdict.error is not None and not findings:
            yield verdict, None


def _item(verdict: Verdict, finding: Finding | None, folder: Path) -> dict[str, Any]:
    """What the page knows of one question."""
    path = os.path.abspath(verdict.path)
    item: dict[str, Any] = {
        "path": path, "name": _readable(os.path.basename(path)), "href": _link(path, folder),
        "error": None if verdict.error is None else _readable(verdict.error),
        "category": "", "verdict": verdict.verdict, "score": 0.0, "threshold": 1.0, "times": "",
    }  # fmt: skip
    if finding is not None:
        times = ", ".join(f"{clock(one.start)}-{clock(one.end)}" for one in finding.ranges)
        because = finding.by if len(finding.by) < 60 else f"...{finding.by[-57:]}"
        item |= {
            "category": finding.category, "verdict": finding.verdict, "score": finding.score,
            "threshold": finding.threshold, "times": times,
            "told": f"score {finding.score:.2f}, threshold {finding.threshold:g}: {_readable(because)}",
        }  # fmt: skip
        if finding.ranges:
            item["href"] += f"#t={max(finding.ranges, key=lambda one: one.score).start:g}"
    return item


def _link(path: str, folder: Path) -> str:
    try:
        relative = os.path.relpath(path, os.path.realpath(folder))
    except ValueError:  # another drive
        return Path(path).as_uri()
    return quote(Path(relative).as_posix() if relative.startswith("..") else f"./{Path(relative).as_posix()}")


def _thumbnail(verdict: Verdict, finding: Finding | None) -> str | None:
    """A small JPEG as a data URL; of a video the middle of its best stretch. None where there is nothing to show."""
    try:
        if is_video(verdict.path):
            best = max(finding.ranges, key=lambda one: one.score, default=None) if finding else None
            start, end = (best.start, best.end) if best else (None, None)
            pixels = sample_frames(verdict.path, 3, start=start, end=end).frames[1]
        else:
            pixels = load_image(verdict.path, reduced_to=SIDE)
    except MidsightError:
        return None
    return f"data:image/jpeg;base64,{_jpeg(pixels)}"


def _jpeg(pixels: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _filled(data: dict[str, Any]) -> str:
    template, style, script = (_file(f"review.{ending}") for ending in ("html", "css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no tag can end the element
    return Template(template).substitute(
        title="Moderation review", policy=html.escape(policy, quote=True), style=style, script=script, data=text
    )


def _file(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _readable(name: str) -> str:
    """The text with everything that could steer the display written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
