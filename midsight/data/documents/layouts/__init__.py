"""The layouts by kind, and how their pages are shaped. Each but the charts' is a Typst file beside this one.

A layout reads `sys.inputs.document`, a JSON object with `fields` (text by name), `data` and `style`,
and shows a field by
`f("name")`, which marks its place by a link; `common.typ` has that and the page. A layout may leave fields out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from midsight.data.documents.config import Kind


@dataclass(frozen=True)
class Shape:
    """The page in points: its width, and its height over its width; no height: as long as its content."""

    width: tuple[int, int]
    tall: tuple[float, float] | None = None
    size: tuple[float, float] = (8.5, 11.0)  # of the text, points


_PAGE = Shape((300, 480), (1.25, 1.45))
_SHEET = Shape((280, 500))
_SLIP = Shape((150, 220), None, (7.5, 9.5))
_WIDE = Shape((380, 560))
_CARD = Shape((220, 360), None, (11.0, 15.0))
_CHART = Shape((448, 1344), (0.55, 1.2))
LAYOUTS: Mapping[Kind, Mapping[str, Shape]] = MappingProxyType(
    {
        "text": {
            "letter_block": _PAGE, "letter_right": _PAGE, "letter_band": _PAGE, "memo_lines": _SHEET,
            "memo_box": _SHEET,
            "article_plain": _SHEET, "article_columns": _WIDE, "article_side": _WIDE, "report_numbered": _PAGE,
            "notice_framed": _SHEET, "page_book": _SHEET,
        },
        "table": {
            "ruled": _SHEET, "striped": _SHEET, "boxed": _SHEET, "open": _SHEET, "dark_head": _SHEET,
            "side_head": _SHEET,
            "panel": _SHEET, "double_rule": _WIDE,
        },
        "invoice": {
            "classic": _PAGE, "band": _PAGE, "side_totals": _PAGE, "boxed": _PAGE, "modern": _SHEET, "centred": _PAGE,
            "receipt_till": _SLIP, "receipt_lines": _SLIP, "receipt_shop": _SLIP, "receipt_bold": _SLIP,
        },
        "form": {
            "lines": _SHEET, "boxes": _SHEET, "grid": _SHEET, "two_columns": _WIDE, "shaded": _SHEET, "ledger": _SHEET,
            "dotted": _SHEET,
        },
        "chart": {
            name: _CHART for name in ("plain", "grid", "boxed", "dark", "report", "soft", "paper", "bold")
        },
        "infographic": {
            "tiles": _SHEET, "rows": _SHEET, "circles": _WIDE, "timeline": _SHEET, "share_bars": _SHEET,
            "share_rings": _WIDE, "banner": _WIDE,
        },
        "card": {
            "badge_plain": _CARD, "badge_band": _CARD, "price_tag": _CARD, "price_shelf": _CARD, "warning_sign": _CARD,
            "warning_board": _CARD, "shop_board": _CARD, "shop_window": _CARD, "ticket_stub": _CARD,
            "ticket_wide": _CARD,
            "label_parcel": _CARD, "label_plain": _CARD, "visit_left": _CARD, "visit_centre": _CARD,
        },
    }
)  # fmt: skip
