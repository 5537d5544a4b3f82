"""Fonts under free licences out of ordinary packages: found, checked for the letters that are needed, and named.

A picture of text is not bound by its font's licence in the usual reading; the list is written beside the data anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from midsight.data.packages import Package, fetch_package
from midsight.errors import InputError, MidsightError

if TYPE_CHECKING:
    from typst import FontInfo

Category = Literal["serif", "sans", "mono", "hand"]
FEWEST = 4  # families; fewer cannot be split in three
NEEDED = "".join(map(chr, range(33, 127))) + "£€¥°–•éèêëáàâäãåçíîïñóôöõøúûüßÄÖÜÉ"

# Debian package (without "fonts-"): licence, and each family in it with its category
_PACKAGED: dict[str, tuple[str, dict[str, Category]]] = {
    "liberation2": ("OFL-1.1", {"Liberation Serif": "serif", "Liberation Sans": "sans", "Liberation Mono": "mono"}),
    "crosextra-caladea": ("Apache-2.0", {"Caladea": "serif"}),
    "ebgaramond": ("OFL-1.1", {"EB Garamond 12": "serif"}),
    "vollkorn": ("OFL-1.1", {"Vollkorn": "serif"}),
    "sil-charis": ("OFL-1.1", {"Charis SIL": "serif"}),
    "linuxlibertine": ("OFL-1.1", {"Linux Libertine O": "serif"}),
    "oldstandard": ("OFL-1.0", {"Old Standard TT": "serif"}),
    "yrsa-rasa": ("OFL-1.1", {"Yrsa": "serif"}),
    "roboto-slab": ("Apache-2.0", {"Roboto Slab": "serif"}),
    "averia-serif-gwf": ("OFL-1.1", {"Averia Serif GWF": "serif"}),
    "texgyre": (
        "GUST Font License",
        {
            "TeX Gyre Pagella": "serif", "TeX Gyre Schola": "serif", "TeX Gyre Bonum": "serif",
            "TeX Gyre Adventor": "sans", "TeX Gyre Cursor": "mono", "TeX Gyre Chorus": "hand",
        },
    ),
    "lato": ("OFL-1.1", {"Lato": "sans"}),
    "open-sans": ("Apache-2.0", {"Open Sans": "sans"}),
    "roboto-unhinted": ("Apache-2.0", {"Roboto": "sans"}),
    "cantarell": ("OFL-1.1", {"Cantarell": "sans"}),
    "inter": ("OFL-1.1", {"Inter": "sans"}),
    "cabin": ("OFL-1.1", {"Cabin": "sans"}),
    "karla": ("OFL-1.1", {"Karla": "sans"}),
    "quicksand": ("OFL-1.1", {"Quicksand": "sans"}),
    "comfortaa": ("OFL-1.1", {"Comfortaa": "sans"}),
    "dosis": ("OFL-1.1", {"Dosis": "sans"}),
    "sil-andika": ("OFL-1.1", {"Andika": "sans"}),
    "manrope": ("OFL-1.1", {"Manrope": "sans"}),
    "play": ("OFL-1.1", {"Play": "sans"}),
    "yanone-kaffeesatz": ("OFL-1.1", {"Yanone Kaffeesatz": "sans"}),
    "clear-sans": ("Apache-2.0", {"Clear Sans": "sans"}),
    "go": ("BSD-3-Clause", {"Go": "sans", "Go Mono": "mono"}),
    "jetbrains-mono": ("Apache-2.0", {"JetBrains Mono": "mono"}),
    "anonymous-pro": ("OFL-1.1", {"Anonymous Pro": "mono"}),
    "dancingscript": ("OFL-1.1", {"Dancing Script": "hand"}),
    "kaushanscript": ("OFL-1.1", {"Kaushan Script": "hand"}),
    "comic-neue": ("OFL-1.1", {"Comic Neue": "hand"}),
    "leckerli-one": ("OFL-1.1", {"Leckerli One": "hand"}),
    "lobstertwo": ("OFL-1.1", {"Lobster Two": "hand"}),
}  # fmt: skip
_OF_MATPLOTLIB: dict[str, Category] = {
    "DejaVu Serif": "serif", "DejaVu Sans": "sans", "DejaVu Sans Mono": "mono", "STIXGeneral": "serif",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A font family with the files that typesetting and plotting use."""

    name: str
    category: Category
    regular: Path
    bold: Path  # the regular one where there is no bold
    package: str
    licence: str


@dataclass(frozen=True)
class Found:
    """The families at hand, and what could not be had and why."""

    families: tuple[Family, ...]
    missing: dict[str, str]  # package -> why


def find_fonts(root: Path) -> Found:
    """The families of the packages above, fetched below `root` where they are not there yet, and matplotlib's.

    A package that cannot be had is left out and named. Nothing is installed on the machine.

    Raises:
        InputError: fewer than `FEWEST` families in all.
    """
    families, missing = matplotlib_families(), {}
    for name, (licence, members) in _PACKAGED.items():
        package = Package(f"fonts-{name}", "debian", "", licence, f"the authors of {', '.join(members)}", True)
        try:
            folder = fetch_package(package, root)
        except MidsightError as error:
            missing[package.name] = str(error)
            continue
        families += _families(folder, members, package.name, licence)
    return Found(checked(families), missing)


def installed_fonts(folder: Path) -> tuple[Family, ...]:
    """Families of a folder of your own, with their categories guessed from their names.

    Raises:
        InputError: no folder, or fewer than `FEWEST` usable families in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Expected one with .ttf or .otf files.")
    names = sorted({info.family for info in _index(folder)})
    return checked(_families(folder, {name: _guess(name) for name in names}, folder.name, "as the owner says"))


def checked(families: Sequence[Family]) -> tuple[Family, ...]:
    """Those with every needed letter, by name.

    Raises:
        InputError: fewer than `FEWEST` are left.
    """
    usable = tuple(sorted((f for f in families if _has_letters(f.regular)), key=lambda f: f.name))
    if len(usable) < FEWEST:
        raise InputError(
            f"{len(usable)} font families with Latin letters, £ and € were found "
            f"({', '.join(f.name for f in usable)}); at least {FEWEST} are needed to keep some for the test. "
            f"Let apt-get fetch Debian's fonts-liberation2, fonts-lato and fonts-texgyre, or name a folder of your own."
        )
    return usable


def matplotlib_families() -> list[Family]:
    found = util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "mpl-data/fonts/ttf"
    families = _families(folder, _OF_MATPLOTLIB, "matplotlib", "Bitstream Vera, Arev and public domain")
    return [f if f.name != "STIXGeneral" else Family(**{**vars(f), "licence": "STIX"}) for f in families]


def _families(folder: Path, members: dict[str, Category], package: str, licence: str) -> list[Family]:
    files: dict[str, dict[int, Path]] = {}
    for info in _index(folder):
        if info.family in members and info.style == "normal" and info.stretch == 1.0 and info.path:
            files.setdefault(info.family, {})[info.weight] = Path(info.path)
    families = []
    for name, weights in files.items():
        regular = weights[min(weights, key=lambda w: (abs(w - 400), w))]
        bold = weights[min(weights, key=lambda w: (abs(w - 700), w))]
        families.append(Family(name, members[name], regular, bold, package, licence))
    return families


def _index(folder: Path) -> list["FontInfo"]:
    import typst

    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(folder)]).fonts()


def _has_letters(path: Path) -> bool:
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True) as font:
        letters = font.getBestCmap() or {}
    shapes = {letters.get(ord(letter)) for letter in NEEDED}  # fallback fonts draw all letters by one shape
    return None not in shapes and len(shapes) > len(NEEDED) // 2


def _guess(name: str) -> Category:
    words = name.lower()
    if any(word in words for word in ("mono", "code", "courier", "typewriter")):
        return "mono"
    if any(word in words for word in ("script", "hand", "comic")):
        return "hand"
    return "serif" if "serif" in words and "sans" not in words else "sans"
