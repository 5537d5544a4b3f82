"""Line icons as SVG out of the npm package bootstrap-icons (MIT): fetched once, coloured when drawn."""

from collections.abc import Mapping
from pathlib import Path

from midsight.data.packages import Package, fetch_package
from midsight.errors import InputError, MidsightError

PACKAGE = Package("bootstrap-icons", "npm", "1.13.1", "MIT", "Bootstrap Icons, The Bootstrap Authors", True)
NAMED = (
    "airplane", "backpack", "battery-full", "bicycle", "book", "bus-front", "cake", "camera", "car-front", "chat",
    "clock",
    "cloud", "cloud-fog", "cloud-rain", "controller", "cup-hot", "cup-straw", "droplet", "egg", "envelope", "film",
    "fire",
    "flower1", "folder", "gem", "headphones", "heart", "hospital", "key", "laptop", "lightbulb", "lightning",
    "music-note",
    "person-walking", "printer", "scooter", "shop", "snow", "star", "sun", "taxi-front", "telephone", "train-front",
    "tree",
    "trophy", "tv", "umbrella", "water", "wind",
)  # fmt: skip


def find_icons(root: Path) -> tuple[dict[str, str], str]:
    """SVG text by name, and why there are none where the package cannot be had.

    Raises:
        InputError: the package lacks one of `NAMED`.
    """
    try:
        folder = fetch_package(PACKAGE, root) / "package/icons"
    except MidsightError as error:
        return {}, str(error)
    missing = [name for name in NAMED if not (folder / f"{name}.svg").is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}. Expected bootstrap-icons {PACKAGE.version}.")
    return {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in NAMED}, ""


def coloured(icons: Mapping[str, str], name: str, colour: str) -> str:
    """The icon's SVG in a colour such as #203040."""
    return icons[name].replace("currentColor", colour)
