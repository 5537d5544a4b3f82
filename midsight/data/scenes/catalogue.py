"""Furniture models of a Sweet Home 3D catalogue: what each is called, how large it is, under which terms.

A catalogue is a folder with `PluginFurnitureCatalog.properties` (English) and `PluginFurnitureCatalog_de.properties`
and so on (other languages), as the `sweethome3d-furniture` package unpacks. Nothing is rendered here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from midsight.data import packaged
from midsight.data.packages import fetch
from midsight.errors import InputError
from midsight.files import safe_join

_INDEX = "PluginFurnitureCatalog.properties"
_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# catalogue names that are a brand, a misspelling, or another word for a thing that the catalogue also has
_RENAMED = {
    "apple ibook": "laptop", "apple imac 1998": "computer", "apple imac 2004": "computer", "apple iphone": "phone",
    "mobile phone": "phone", "wireless phone": "phone", "bike": "bicycle", "indoor bike": "exercise bike",
    "car model": "car", "chevrolet": "car", "concept sedan 01": "car", "concept sedan 02": "car",
    "concept sedan 02 sport": "car", "ford focus": "car", "peugeot 308 cc": "car", "renault scenic": "car",
    "seat leon": "car", "smart car": "car", "vw new beetle": "car", "suv": "car", "yamaha yzr r6": "motorbike",
    "city bus": "bus", "couch": "sofa", "burlap sofa": "sofa", "clear sofa": "sofa", "corner sofa": "sofa",
    "futon couch": "sofa", "winchester sofa": "sofa", "rattan sofa": "sofa", "sofa 2 seats": "sofa",
    "sofa 3 seats": "sofa", "convertible sofa bz": "sofa", "winchester armchair": "armchair",
    "modern armchair": "armchair", "rattan armchair": "armchair", "children chair": "chair", "child chair": "chair",
    "chair with cushion": "chair", "cafe chair": "chair", "oak chair": "chair", "osaka chair": "chair",
    "plastic chair": "chair", "folding chair": "chair", "ryokan chair": "chair", "teck chair": "chair",
    "relax chair": "chair", "class seat": "chair", "black table": "table", "oak table": "table",
    "cafe table": "table", "children table": "table", "wooden alder table": "table", "wooden table": "table",
    "wooden teak table": "table", "table with tablecloth": "table", "table on trestles": "table",
    "folding table": "table", "glass table": "table", "round table": "table", "bar table": "table",
    "technical table": "table", "rattan table": "table", "wooden desk": "desk", "desk table": "desk",
    "wood bank": "bench", "concrete bench": "bench", "painted bench": "bench", "puff": "pouf", "trunck": "trunk",
    "flipper": "pinball machine", "gaz water heater": "water heater", "electric water heater": "water heater",
    "tv 16:9": "television", "tv": "television", "letters box": "mailbox", "cup cake": "cupcake", "hashtray": "ashtray",
    "bootie": "boot", "mocassin": "shoe", "fridge": "refrigerator", "large fridge": "refrigerator",
    "coffee brewer": "coffee machine", "coffee maker": "coffee machine", "coffee mug": "coffee cup",
    "siamese cat": "cat", "bulldog": "dog", "tulips": "bunch of tulips", "soccer ball": "football",
    "male": "man", "female": "woman", "sitting male": "sitting man", "sitting female": "sitting woman",
    "holding male": "man", "holding female": "woman", "residential trashcan": "trash can", "park trashcan": "trash can",
    "bullet trash can": "trash can", "dustbin": "trash can", "iron bed": "bed", "captain's bed": "bed",
    "day bed": "bed", "child bed": "bed", "baby bed": "crib", "clothes washing machine": "washing machine",
    "coconut tree": "palm tree", "bended coconut tree": "palm tree", "flowers": "bunch of flowers",
    "little plant": "plant", "decorative plant": "plant", "indoor plant": "plant", "little lamp": "lamp",
    "mini stereo": "stereo", "full bookcase": "bookcase", "chest": "chest of drawers", "drawers cabinet": "cabinet",
    "high cabinet": "cabinet", "glass door cabinet": "cabinet", "lower cabinet": "cabinet",
    "small lower cabinet": "cabinet", "locked locker": "locker", "small oven": "oven", "large stove": "stove",
    "cooker": "stove", "propane stove": "camping stove", "park light": "street light", "street lamp": "street light",
    "classic lamppost": "street light", "large pan": "pan", "kitchen knife": "knife", "rigged fan": "fan",
    "table fan": "fan", "reflex camera": "camera", "old jar": "jar", "milk": "carton of milk", "bread": "loaf of bread",
    "table tennis": "table tennis table", "christmas tree": "Christmas tree", "lip stick": "lipstick",
    "mower": "lawn mower", "extinguisher": "fire extinguisher", "flacon": "bottle", "white board": "whiteboard",
    "playstation": "game console", "penbox": "pencil box", "text marker": "marker", "dvd player": "DVD player",
    "inkjet printer and scanner": "printer", "tv stand": "TV stand", "wood toy": "toy", "woman shoes": "women's shoes",
    "copper beech": "tree", "poplar": "tree", "sycamore maple": "tree", "acacia": "tree", "pine": "tree",
    "cypress": "tree", "peach blossom": "tree", "japanese maple": "tree", "blue pine under snow": "snowy tree",
    "pine under snow": "snowy tree", "spathiphyllum": "plant", "yucca": "plant", "rubik's cube": "Rubik's cube",
    "double oven": "oven", "bowl with fruits": "bowl of fruit", "bowl with salad": "bowl of salad",
    "punching ball": "punching bag", "spice tower": "spice rack", "fork lift": "forklift", "bar chair": "bar stool",
    "tv remote control": "remote control", "small step ladder": "step ladder", "oval plate": "plate",
    "open cardboard box": "cardboard box", "baby high chair": "high chair", "beach chair": "deck chair",
    "yogurt bottle": "bottle", "tetra pak": "carton", "white lily": "plant", "table tennis bat": "table tennis racket",
}  # fmt: skip
# no single thing, or a model whose mesh has holes or is a mere sheet
_LEFT_OUT = re.compile(
    r"arrow|crossing|parking|plug|switch|socket|railing|rails?$|sidewalk|swimming pool|contemporary living|mezzanine|"
    r"^tool$|glass and|glasses and|^suit$|^backpack$|elevator|escalator|staircase|opened|barnum|frame chambord|"
    r"hanging|curtain|shower|wall |ceiling|lying|mannequin|column|fence|hedge|carpet|rug$|tatami|bathmat|doormat|"
    r"hut|window|door$|hood|pendant|island|extension|unit|water heater|bill |upper|emergency|speech|bell|"
    r"clothes hanger|coathanger|hammock|^ring$|^keys$|slippers|^short$|gloves?$|skirt|dress$|trousers|jacket|towel|"
    r"football goal|basketball net|smoke|trestles|chimney|fireplace|sandpit|track lights|fluorescent|hose|corner|"
    r"sitting|^butter$|^sugar$|pottery|frame|induction|game$|grill device|little bank|boiler|"
    r"servers|electronic scale|stereo amplifier|chandelier|intercom|surveillance|cctv|^basin$|day light|mp3|spotlight"
)
_OUTDOORS = ("Exterior", "Vehicles")


@dataclass(frozen=True)
class FurnitureModel:
    """One model of a catalogue."""

    name: str  # English, lower case, singular, without brands
    names: dict[str, str]  # as the catalogue writes it, by language: {"en": "Couch", "de": "Sofa", ...}
    category: str  # English
    path: Path  # .obj
    size: tuple[float, float, float]  # width (x), height (y), depth (z) in metres
    licence: str
    author: str
    source: str  # catalogue
    rotation: tuple[float, ...] = _UPRIGHT  # 3x3 by rows, applied to the mesh before it is scaled
    top: float | None = None  # height in metres at which other things stand on it, where the catalogue says so
    icon: Path | None = None  # the small picture of it, as `midsight.data.packaged.furniture` lists it

    @property
    def outdoors(self) -> bool:
        return self.category in _OUTDOORS

    @property
    def radius(self) -> float:
        """Of the circle around its footprint, metres."""
        return float((self.size[0] ** 2 + self.size[2] ** 2) ** 0.5 / 2)


def read_catalogue(folder: Path, licence: str | None = None) -> list[FurnitureModel]:
    """All models of one unpacked catalogue that stand free, have a size and are one thing, in catalogue order.

    Args:
        folder: holds `PluginFurnitureCatalog.properties` and the model files it names.
        licence: SPDX name; by default CC0-1.0 where the catalogue's own licence line says CC0, else CC-BY-3.0.

    Raises:
        InputError: the folder has no such file, or an entry points outside the folder.
    """
    index = folder / _INDEX
    if not index.is_file():
        raise InputError(f"{folder}: no {_INDEX} in it. Expected an unpacked Sweet Home 3D furniture catalogue.")
    fields = _properties(index)
    languages = {"en": fields}
    for path in sorted(folder.glob("PluginFurnitureCatalog_*.properties")):
        language = path.stem.removeprefix("PluginFurnitureCatalog_").replace("_", "-")
        if language != "en-US":
            languages[language] = _properties(path)
    licence = licence or ("CC0-1.0" if re.search(r"CC-?0", folder.name + fields.get("license", "")) else "CC-BY-3.0")
    numbers = sorted(int(key.removeprefix("model#")) for key in fields if re.fullmatch(r"model#\d+", key))
    models = (_model(folder, number, languages, licence) for number in numbers)
    return [model for model in models if model is not None]


def furniture_models(root: Path) -> list[FurnitureModel]:
    """The usable models of the `sweethome3d-furniture` package, fetched and unpacked below `root` on the first call."""
    packaged.furniture(root)  # unpacks the catalogues
    folder = fetch("sweethome3d-furniture", root) / "unpacked"
    return [model for catalogue in sorted(folder.iterdir()) for model in read_catalogue(catalogue)]


def attributions(models: Iterable[FurnitureModel]) -> str:
    """A list to ship with the pictures: every model with its author, catalogue and licence, one a line, sorted."""
    lines = {
        f"{model.names['en']}, by {model.author or 'unknown'} ({model.source}), {model.licence}" for model in models
    }
    return "".join(line + "\n" for line in sorted(lines))


def texture_credit(path: Path, catalogue: Path) -> str:
    """Whose picture a file of an unpacked catalogue is: the model's author where a note says, else the catalogue's."""
    licence = "CC0-1.0" if "CC-0" in catalogue.name else "CC-BY-3.0"
    author = _author(path, "") or catalogue.name
    return f"Texture {path.relative_to(catalogue)}, by {author} ({catalogue.name}), {licence}"


def _model(folder: Path, number: int, languages: dict[str, dict[str, str]], licence: str) -> FurnitureModel | None:
    fields = languages["en"]

    def field(key: str) -> str:
        return fields.get(f"{key}#{number}", "").strip()

    name = _RENAMED.get(field("name").lower(), field("name").lower())
    size = tuple(_number(field(key)) / 100 for key in ("width", "height", "depth"))
    path = safe_join(folder, field("model").lstrip("/"))
    fixed = field("doorOrWindow") == "true" or _number(field("elevation")) > 0
    if fixed or not name or _LEFT_OUT.search(name) or min(size) <= 0 or not path.is_file():
        return None
    names = {
        language: fields[f"name#{number}"].strip()
        for language, fields in languages.items()
        if f"name#{number}" in fields
    }
    top, icon = _number(field("dropOnTopElevation")) / 100, field("icon").lstrip("/")
    rotation = tuple(float(value) for value in field("modelRotation").split()) or _UPRIGHT
    return FurnitureModel(
        name, names, field("category"), path, (size[0], size[1], size[2]), licence, _author(path, field("creator")),
        folder.name, rotation, top if top > 0 else None, safe_join(folder, icon) if icon else None,
    )  # fmt: skip


def _author(path: Path, creator: str) -> str:
    """The creator as the catalogue says, else as the licence file beside the model says."""
    note = path.parent / "BLENDSWAP_LICENSE.txt"
    if not creator and note.is_file():
        found = re.search(r'downloading ".*?" by (.+)', note.read_text(encoding="latin-1"))
        creator = found[1].strip() if found else ""
    return creator


def _properties(path: Path) -> dict[str, str]:
    r"""A Java properties file: Latin-1, `\uXXXX` escapes, `key=value` lines."""
    fields = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if "=" in line and not line.lstrip().startswith(("#", "!")):
            key, value = line.split("=", 1)
            fields[key.strip()] = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), value)
    return fields


def _number(text: str) -> float:
    return float(text) if text else 0.0
