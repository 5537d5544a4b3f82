"""Infographics: a few big numbers beside icons, shares as bars, a source line."""

from collections.abc import Mapping

from midsight.data.documents import lists
from midsight.data.documents.icons import NAMED
from midsight.data.documents.kinds.wording import asked, counted, number_forms, only_extreme, yes_no
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary, grouped

# title, what is counted, things with the icon that stands for each
_TOPICS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("How {city} Travels", "trips a day", {"Bus": "bus-front", "Train": "train-front", "Car": "car-front",
     "Bicycle": "bicycle", "Walking": "person-walking", "Taxi": "taxi-front", "Scooter": "scooter"}),
    ("A Day in {city}", "people", {"Schools": "backpack", "Hospital": "hospital", "Library": "book", "Shops": "shop",
     "Cafes": "cup-hot", "Parks": "tree", "Airport": "airplane"}),
    ("Our Kitchen in {year}", "portions", {"Coffee": "cup-hot", "Eggs": "egg", "Cake": "cake", "Water": "droplet",
     "Wine": "cup-straw", "Fish": "water"}),
    ("The Office in Numbers", "pieces", {"Letters": "envelope", "Phones": "telephone", "Printers": "printer",
     "Laptops": "laptop", "Keys": "key", "Folders": "folder", "Lamps": "lightbulb", "Clocks": "clock"}),
    ("Energy in {city}", "GWh", {"Sun": "sun", "Wind": "wind", "Water": "droplet", "Fire": "fire",
     "Batteries": "battery-full", "Lightning": "lightning"}),
    ("What We Collect", "items", {"Stars": "star", "Hearts": "heart", "Flowers": "flower1", "Gems": "gem",
     "Trophies": "trophy", "Umbrellas": "umbrella", "Music": "music-note"}),
    ("Media Use in {year}", "hours a year", {"Television": "tv", "Games": "controller", "Music": "headphones",
     "Films": "film", "Photos": "camera", "Books": "book", "Chat": "chat"}),
    ("{city} and its Weather", "days a year", {"Sun": "sun", "Clouds": "cloud", "Rain": "cloud-rain", "Snow": "snow",
     "Storms": "lightning", "Fog": "cloud-fog"}),
)  # fmt: skip
_ICON_WORDS = {
    "bus-front": "bus", "train-front": "train", "car-front": "car", "person-walking": "walking person",
    "taxi-front": "taxi", "cup-hot": "steaming cup", "book": "book", "tree": "tree", "airplane": "aeroplane",
    "envelope": "envelope", "telephone": "telephone", "printer": "printer", "laptop": "laptop", "key": "key",
    "lightbulb": "light bulb", "clock": "clock", "sun": "sun", "droplet": "drop", "star": "star", "heart": "heart",
    "flower1": "flower", "gem": "gem", "trophy": "trophy", "umbrella": "umbrella", "music-note": "note",
    "tv": "television",
    "controller": "game controller", "headphones": "headphones", "camera": "camera", "cloud": "cloud",
    "snow": "snowflake",
    "lightning": "flash of lightning", "bicycle": "bicycle", "egg": "egg", "cake": "cake", "fire": "flame",
    "backpack": "backpack", "shop": "shop", "folder": "folder",
}  # fmt: skip


def draw(w: Vocabulary, layout: str) -> Record:
    """3 to 6 things with an icon, a number each and a label; shares in percent for some layouts."""
    title, unit, things = w.pick(_TOPICS)
    chosen = w.some(list(things), w.many(3, 6))
    percent = layout.startswith("share")
    values = w.some(range(4, 97), len(chosen)) if percent else _numbers(w, len(chosen))
    fields = {
        "title": title.format(city=w.pick(lists.CITIES), year=w.between(2014, 2026)),
        "source": f"Source: {w.company()}",
        "intro": w.sentence(), "unit": "Share of people in percent" if percent else f"Numbers are {unit}",
    }  # fmt: skip
    for n, (name, value) in enumerate(zip(chosen, values, strict=True)):
        fields |= {f"label.{n}": name, f"value.{n}": f"{value}%" if percent else grouped(value)}
    data = {"things": len(chosen), "icons": [things[name] for name in chosen], "numbers": values}
    names = {f"value.{n}": f"the number for {name}" for n, name in enumerate(chosen)}
    questions = [
        *looked_up(fields, "title", [w.pick(("What is the title of the infographic?", "What does the headline say?"))],
            "read"),
        *looked_up(fields, "source", ["What is the source of the figures?"], "lookup", (fields["source"][8:],)),
        *looked_up(fields, "intro", ["Read the sentence below the title."], "transcribe"),
        *_about_values(w, chosen, values, fields, "%" if percent else ""),
        *_about_icons(w, [things[name] for name in chosen], fields, values, "%" if percent else ""),
    ]  # fmt: skip
    return Record(fields, questions, data, names | {"title": "the title", "source": "the source"})


def _numbers(w: Vocabulary, count: int) -> list[int]:
    scale = w.pick((1, 1, 10, 100, 1000))
    return [scale * value for value in w.some(range(3, 99), count)]


def _about_values(
    w: Vocabulary, names: list[str], values: list[int], fields: dict[str, str], unit: str
) -> list[Question]:
    found = []
    for n in w.some(range(len(names)), 3):
        wordings = [
            f"What number is given for {names[n]}?",
            f"How much is shown for {names[n]}?",
            f"Read the figure of {names[n]}.",
        ]
        answers = (fields[f"value.{n}"], *number_forms(values[n], unit))
        found.append(asked(w, wordings, answers, "lookup", (f"value.{n}", f"label.{n}")))
        found.append(asked(w, (f"Which entry has the number {fields[f'value.{n}']}?",), (names[n],), "lookup",
                           (f"label.{n}", f"value.{n}")))  # fmt: skip
    for largest, word in ((True, "highest"), (False, "lowest")):
        best = only_extreme(values, largest)
        if best is not None:
            wordings = [f"Which entry has the {word} number?", f"What is the entry with the {word} value?"]
            found.append(asked(w, wordings, (names[best],), "extreme", (f"label.{best}", f"value.{best}")))
    labels = tuple(f"label.{n}" for n in range(len(names)))
    found.append(asked(w, ("How many entries with a number are there?",), counted(len(names)), "count", labels))
    a, b = w.some(range(len(names)), 2)
    evidence = (f"value.{a}", f"value.{b}")
    gap, total = abs(values[a] - values[b]), values[a] + values[b]
    found += [
        asked(w, (f"What is the difference between {names[a]} and {names[b]}?",), number_forms(gap, unit),
            "difference", evidence),
        asked(w, (f"What do {names[a]} and {names[b]} add up to?",), number_forms(total, unit), "sum", evidence),
        yes_no(w, (f"Is the number for {names[a]} larger than the one for {names[b]}?",), values[a] > values[b],
            evidence),
    ]  # fmt: skip
    return found


def _about_icons(
    w: Vocabulary, icons: list[str], fields: dict[str, str], values: list[int], unit: str
) -> list[Question]:
    """Only icons that are drawn, have a plain name, and whose name is not simply the label's."""
    found = []
    for n, icon in enumerate(icons):
        word = _ICON_WORDS.get(icon)
        if word and icon in NAMED:
            answers = (fields[f"value.{n}"], *number_forms(values[n], unit))
            wordings = [f"Which number stands with the picture of a {word}?".replace(" a headphones", " headphones")]
            found.append(asked(w, wordings, answers, "lookup", (f"value.{n}", f"icon.{n}")))
            wordings = [f"What is the label of the {word}?"]
            found.append(asked(w, wordings, (fields[f"label.{n}"],), "lookup", (f"label.{n}", f"icon.{n}")))
    return found
