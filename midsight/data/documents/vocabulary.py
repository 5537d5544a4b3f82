"""Random names, amounts, dates and sentences for one document, all from one seed."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from midsight.data.documents import lists
from midsight.errors import MissingDependencyError

try:
    from faker import Faker
except ModuleNotFoundError as error:
    raise MissingDependencyError("documents need Faker: pip install 'midsight[documents-data]'") from error

T = TypeVar("T")
# it_IT is left out: it draws towns from a set, whose order changes from process to process
_LOCALES = ("en_US", "en_GB", "en_CA", "en_AU", "en_IE", "de_DE", "fr_FR", "es_ES", "pt_PT", "nl_NL", "sv_SE")
_LOCALE_WEIGHTS = (0.4, 0.2, 0.1, 0.1, 0.05, 0.03, 0.03, 0.03, 0.02, 0.02, 0.02)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DATES = (
    "{month} {day}, {year}", "{day} {month} {year}", "{short} {day}, {year}", "{day} {short} {year}",
    "{year}-{mm}-{dd}", "{mm}/{dd}/{year}", "{dd}.{mm}.{year}", "{dd}/{mm}/{year}", "{dd}-{short}-{year}",
)  # fmt: skip
_LATIN = set(map(chr, range(32, 127))) | set("£€¥°–•éèêëáàâäãåçíîïñóôöõøúûüßÄÖÜÉ")


@dataclass(frozen=True)
class Money:
    """How a document writes amounts."""

    symbol: str
    before: bool
    space: bool
    thousands: str
    decimal: str

    def __call__(self, cents: int) -> str:
        """An amount of so many hundredths, as shown."""
        number = self.plain(cents)
        gap = " " if self.space else ""
        return f"{self.symbol}{gap}{number}" if self.before else f"{number}{gap}{self.symbol}"

    def plain(self, cents: int) -> str:
        """Without the symbol."""
        sign, whole, rest = "-" if cents < 0 else "", *divmod(abs(cents), 100)
        return f"{sign}{grouped(whole, self.thousands)}{self.decimal}{rest:02d}"

    def accepted(self, cents: int) -> tuple[str, ...]:
        """Other ways to give the same amount: without the symbol, without separators, whole amounts short."""
        bare = f"{cents / 100:.2f}"
        return tuple(dict.fromkeys((self.plain(cents), bare, *([bare[:-3]] if bare.endswith(".00") else []))))


_MONIES = (
    Money("$", True, False, ",", "."), Money("£", True, False, ",", "."), Money("€", True, False, ",", "."),
    Money("€", False, True, ".", ","), Money("$", True, False, "", "."), Money("USD", True, True, ",", "."),
    Money("CHF", True, True, "'", "."), Money("EUR", False, True, ".", ","), Money("kr", False, True, " ", ","),
    Money("C$", True, False, ",", "."), Money("£", True, False, "", "."), Money("A$", True, False, ",", "."),
)  # fmt: skip
_MONEY_WEIGHTS = (0.34, 0.14, 0.12, 0.08, 0.08, 0.05, 0.03, 0.04, 0.03, 0.03, 0.03, 0.03)


def grouped(number: int, separator: str = ",") -> str:
    """A whole number with a separator between thousands."""
    return f"{number:,}".replace(",", separator)


class Vocabulary:
    """Everything that is drawn for one document.

    Args:
        seed: of this document alone.
        amount: how much it holds, 1 as much as its kind usually does, less where that does not fit its page.
        sentences: real English sentences for running text; the built-in ones where there are none.
    """

    def __init__(self, seed: Sequence[int], amount: float = 1.0, sentences: Sequence[str] = ()) -> None:
        self.rng = np.random.default_rng(tuple(seed))
        self.amount = amount
        self._sentences = sentences
        self._fake = _faker(_LOCALES[int(self.rng.choice(len(_LOCALES), p=_LOCALE_WEIGHTS))])
        self._fake.seed_instance(int(self.rng.integers(1 << 62)))
        self.money = _MONIES[int(self.rng.choice(len(_MONIES), p=_MONEY_WEIGHTS))]
        self._date = self.pick(_DATES)

    def pick(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[int(self.rng.integers(len(options)))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """So many different ones, in random order; all of them where there are fewer."""
        return [options[i] for i in self.rng.permutation(len(options))[:count]]

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def many(self, low: int, high: int) -> int:
        """As `between`, cut by the document's amount, never below low."""
        return max(low, round(self.between(low, high) * self.amount))

    def person(self) -> str:
        """A full name."""
        return self._plain(lambda: f"{self._fake.first_name()} {self._fake.last_name()}")

    def company(self) -> str:
        """A firm's name."""
        return self._plain(self._fake.company)

    def street(self) -> str:
        """Street and number."""
        return self._plain(lambda: " ".join(self._fake.street_address().split()))

    def city(self) -> str:
        """A town."""
        return self._plain(self._fake.city)

    def postcode(self) -> str:
        """A postal code."""
        return self._plain(self._fake.postcode)

    def phone(self) -> str:
        """A telephone number of a made-up form."""
        return self.pick(("({:03d}) {:03d}-{:04d}", "+{:02d} {:03d} {:06d}", "{:03d}-{:03d}-{:04d}")).format(
            self.between(20, 99), self.between(100, 999), self.between(1000, 9999)
        )

    def email(self, person: str) -> str:
        """An address at a reserved domain, made of the name."""
        words = [_ascii(word) for word in person.lower().split()]
        return f"{self.pick(('.', '_', '')).join(words)}@{self.pick(('example.com', 'example.org', 'example.net'))}"

    def job(self) -> str:
        """A job title."""
        return self.pick(lists.JOBS)

    def code(self, pattern: str) -> str:
        """# becomes a digit, ? a capital that cannot be taken for a digit."""
        letters = "ABCDEFGHJKLMNPRTUVWXYZ"
        digits = {"#": lambda: str(self.between(0, 9)), "?": lambda: self.pick(letters)}
        return "".join(digits[c]() if c in digits else c for c in pattern)

    def day(self, first: int = 2015, last: int = 2026) -> datetime.date:
        """A date of those years."""
        return datetime.date(self.between(first, last), 1, 1) + datetime.timedelta(days=self.between(0, 364))

    def date(self, day: datetime.date) -> str:
        """A date as this document writes dates."""
        month = _MONTHS[day.month - 1]
        return self._date.format(
            month=month, short=month[:3], day=day.day, year=day.year, dd=f"{day.day:02d}", mm=f"{day.month:02d}"
        )

    def time(self) -> str:
        """A time of the day, to five minutes."""
        hour, minute = self.between(7, 21), 5 * self.between(0, 11)
        if self.chance(0.5):
            return f"{hour:02d}:{minute:02d}"
        return f"{(hour - 1) % 12 + 1}:{minute:02d} {'AM' if hour < 12 else 'PM'}"

    def sentence(self) -> str:
        """A sentence."""
        return self.pick(self._sentences) if self._sentences and self.chance(0.6) else self._built_in()

    def _built_in(self) -> str:
        pattern = self.pick(lists.SENTENCES)
        slots = {name: self.pick(options) for name, options in lists.SLOTS.items()}
        return pattern.format(n=self.between(2, 90), **slots)

    def _plain(self, draw: Callable[[], str]) -> str:
        """Drawn again until every letter is one that each font has; names are short enough for a label."""
        while True:
            text = draw().replace("ẞ", "ß")
            if set(text) <= _LATIN and len(text) <= 34:
                return text


_FAKERS: dict[str, Faker] = {}


def _faker(locale: str) -> Faker:
    """Made once a process: making one costs more than a document."""
    if locale not in _FAKERS:
        _FAKERS[locale] = Faker(locale)
    return _FAKERS[locale]


def _ascii(word: str) -> str:
    swaps = str.maketrans("éèêëáàâäãåçíîïñóôöõøúûü", "eeeeaaaaaaciiinooooouuu")
    return "".join(c for c in word.translate(swaps).replace("ß", "ss") if c.isascii() and c.isalnum())
