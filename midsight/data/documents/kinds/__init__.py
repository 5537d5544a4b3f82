"""What each kind of document says and what can be asked of it: `draw` gives a `Record` for a layout."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from midsight.data.documents.config import Kind
from midsight.data.documents.kinds import cards, charts, forms, infographics, invoices, tables, texts
from midsight.data.documents.record import Record
from midsight.data.documents.vocabulary import Vocabulary

DRAW: Mapping[Kind, Callable[[Vocabulary, str], Record]] = MappingProxyType(
    {
        "text": texts.draw, "table": tables.draw, "invoice": invoices.draw, "form": forms.draw, "chart": charts.draw,
        "infographic": infographics.draw, "card": cards.draw,
    }
)  # fmt: skip
