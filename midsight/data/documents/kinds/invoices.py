"""Invoices and receipts: who, to whom, when, which goods, and sums that add up."""

import datetime
from dataclasses import dataclass

from midsight.data.documents import lists
from midsight.data.documents.kinds.wording import asked, counted, only_extreme, yes_no
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary

_TITLES = ("INVOICE", "Invoice", "Tax Invoice", "Sales Invoice", "Bill")
_RECEIPT_TITLES = ("RECEIPT", "Receipt", "Sales Receipt", "CASH RECEIPT", "Customer Copy")
_NUMBER = ("Invoice No.", "Invoice number", "Invoice #", "No.", "Reference")
_RECEIPT_NUMBER = ("Receipt No.", "Ticket", "Receipt #", "Trans. No.")
_TOTAL = ("Total", "TOTAL", "Amount due", "Grand total", "Balance due", "To pay")
_SUBTOTAL = ("Subtotal", "Net amount", "Sum", "Subtotal (net)")
_TAX = ("VAT {rate}%", "Tax {rate}%", "Sales tax ({rate}%)", "GST {rate}%")
_PAID_BY = ("Cash", "Credit card", "Debit card", "Bank transfer", "Voucher", "Cheque")
_THANKS = (
    "Thank you for your business!", "Please pay within 14 days.", "Thank you, come again!",
    "Goods remain ours until paid.",
    "Returns within 30 days.", "We appreciate your order.",
)  # fmt: skip


@dataclass(frozen=True)
class _Item:
    name: str
    quantity: int
    price: int  # cents

    @property
    def amount(self) -> int:
        return self.quantity * self.price


def draw(w: Vocabulary, layout: str) -> Record:
    """A receipt where the layout is one, else an invoice."""
    receipt = layout.startswith("receipt")
    items = _items(w, receipt)
    rate = w.pick((5, 6, 7, 8, 10, 19, 20, 21))
    subtotal = sum(item.amount for item in items)
    tax = (subtotal * rate + 50) // 100
    day = w.day()
    fields = _heads(w, receipt, day) | _rows(w, items)
    fields |= {
        "label.subtotal": w.pick(_SUBTOTAL), "subtotal": w.money(subtotal),
        "label.tax": w.pick(_TAX).format(rate=rate), "tax": w.money(tax),
        "label.total": w.pick(_TOTAL), "total": w.money(subtotal + tax), "thanks": w.pick(_THANKS),
    }  # fmt: skip
    questions = [*_about_heads(w, fields, receipt), *_about_items(w, items), *_about_sums(w, fields, items, tax)]
    names = {
        "number": "the document's number", "date": "the date", "due": "the due date",
        "seller.name": "the seller's name",
        "buyer.name": "the customer's name", "subtotal": "the subtotal", "tax": "the tax amount", "total": "the total",
        **{f"item.{n}.name": f"the item \"{item.name}\"" for n, item in enumerate(items)},
    }  # fmt: skip
    stacks = [("seller.name", "seller.street", "seller.city"), ("buyer.name", "buyer.street", "buyer.city")]
    return Record(fields, questions, {"items": len(items)}, names, stacks)


def _items(w: Vocabulary, receipt: bool) -> list[_Item]:
    shops = [s for s in lists.SHOPS if (s not in ("services",) if receipt else s not in ("grocery", "cafe"))]
    goods = w.some(lists.SHOPS[w.pick(shops)], w.many(2, 9))
    return [
        _Item(name, 1 if w.chance(0.4) else w.between(2, 12 if not receipt else 4), _price(w, low, high))
        for name, low, high in goods
    ]


def _price(w: Vocabulary, low: int, high: int) -> int:
    cents = w.between(low, high)
    return cents - cents % 500 if low > 4000 else cents - cents % 100 + w.pick((0, 20, 25, 49, 50, 75, 90, 95, 99))


def _heads(w: Vocabulary, receipt: bool, day: datetime.date) -> dict[str, str]:
    fields = {
        "title": w.pick(_RECEIPT_TITLES if receipt else _TITLES), "seller.name": w.company(),
        "seller.street": w.street(),
        "seller.city": f"{w.postcode()} {w.city()}", "seller.phone": w.phone(),
        "label.number": w.pick(_RECEIPT_NUMBER if receipt else _NUMBER),
        "number": w.code(w.pick(("####", "######", "??-####", "20##-###", "?####", "INV-####"))),
        "label.date": w.pick(("Date", "Date of issue", "Issued", "Invoice date") if not receipt else ("Date",
            "Printed")),
        "date": w.date(day), "label.payment": w.pick(("Payment", "Paid by", "Payment method")),
        "payment": w.pick(_PAID_BY),
    }  # fmt: skip
    if receipt:
        cashier = w.person().split()[0]
        return fields | {
            "label.cashier": w.pick(("Cashier", "Served by", "Clerk")),
            "cashier": cashier,
            "time": w.time(),
        }
    due = day + datetime.timedelta(days=w.pick((7, 10, 14, 21, 30, 45, 60)))
    return fields | {
        "label.due": w.pick(("Due date", "Due", "Pay by", "Payment due")), "due": w.date(due),
        "label.buyer": w.pick(("Bill to", "Billed to", "Customer", "Sold to", "Client")), "buyer.name": w.person(),
        "buyer.street": w.street(), "buyer.city": f"{w.postcode()} {w.city()}",
        "head.name": w.pick(("Description", "Item", "Article", "Service")), "head.quantity": w.pick(("Qty", "Quantity",
            "Units")),
        "head.price": w.pick(("Price", "Unit price", "Rate")), "head.amount": w.pick(("Amount", "Line total",
            "Total price")),
    }  # fmt: skip


def _rows(w: Vocabulary, items: list[_Item]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for n, item in enumerate(items):
        fields |= {f"item.{n}.name": item.name, f"item.{n}.quantity": str(item.quantity)}
        fields |= {f"item.{n}.price": w.money(item.price), f"item.{n}.amount": w.money(item.amount)}
    return fields


def _about_heads(w: Vocabulary, fields: dict[str, str], receipt: bool) -> list[Question]:
    what = w.pick(("receipt", "bill")) if receipt else w.pick(("invoice", "bill"))
    found = [
        *looked_up(fields, "number", [w.pick((f"What is the {what} number?", f"Give the number of this {what}."))]),
        *looked_up(fields, "date", [w.pick((f"What is the date of the {what}?", f"When was this {what} issued?"))],
            "date"),
        *looked_up(fields, "due", [w.pick(("What is the due date?", "By when must this be paid?"))], "date"),
        *looked_up(fields, "seller.name", [w.pick((f"Who issued this {what}?", "What is the name of the seller?",
                                                   "Which company is selling?"))]),
        *looked_up(fields, "seller.phone", ["What is the telephone number of the seller?"]),
        *looked_up(fields, "buyer.name", [w.pick((f"To whom is the {what} addressed?", "Who is the customer?",
                                                  "What is the name of the buyer?"))]),
        *looked_up(fields, "buyer.street", ["What is the street address of the customer?"]),
        *looked_up(fields, "payment", [w.pick(("What is the method of payment?", "How is it paid?"))]),
        *looked_up(fields, "cashier", [w.pick(("Who served the customer?", "What is the cashier's name?"))]),
        *looked_up(fields, "time", [f"At what time was the {what} printed?"]),
        *looked_up(fields, "title", [w.pick(("What is the title of the document?", "What does the heading say?"))],
            "read"),
    ]  # fmt: skip
    return found


def _about_items(w: Vocabulary, items: list[_Item]) -> list[Question]:
    found = []
    names = [f"item.{n}.name" for n in range(len(items))]
    for n in w.some(range(len(items)), 4):
        item = items[n]
        price = (w.money(item.price), *w.money.accepted(item.price))
        amount = (w.money(item.amount), *w.money.accepted(item.amount))
        found += [
            asked(w, (f"What is the unit price of {item.name}?", f"How much does one {item.name} cost?",
                      f"What is the price of one unit of {item.name}?"), price, "amount", (names[n],
                      f"item.{n}.price")),
            asked(w, (f"What is the quantity of {item.name}?", f"How many units of {item.name} are listed?"),
                  counted(item.quantity), "lookup", (names[n], f"item.{n}.quantity")),
            asked(w, (f"What is the amount charged for {item.name} in all?", f"What is the line total of {item.name}?"),
                  amount, "amount", (names[n], f"item.{n}.amount")),
        ]  # fmt: skip
    found.append(asked(w, ("How many different items are listed?", "How many lines of items are there?"),
                       counted(len(items)), "count", names))  # fmt: skip
    for largest, words in ((True, ("highest", "most expensive")), (False, ("lowest", "cheapest"))):
        best = only_extreme([item.price for item in items], largest)
        if best is not None:
            wordings = [f"Which item has the {words[0]} unit price?", f"Which item is the {words[1]} by unit price?"]
            found.append(asked(w, wordings, (items[best].name,), "extreme", (names[best], f"item.{best}.price")))
    present = w.chance(0.5)
    others = [g[0] for goods in lists.SHOPS.values() for g in goods if g[0] not in {item.name for item in items}]
    n = w.between(0, len(items) - 1)
    wanted = items[n].name if present else w.pick(others)
    wordings = [f"Is {wanted} among the items?", f"Does the list contain {wanted}?"]
    found.append(yes_no(w, wordings, present, (names[n],) if present else names))
    return found


def _about_sums(w: Vocabulary, fields: dict[str, str], items: list[_Item], tax: int) -> list[Question]:
    subtotal = sum(item.amount for item in items)
    total = subtotal + tax
    limit = total - total % 1000 + w.pick((-2000, -1000, 1000, 2000, 5000))
    found = [
        *looked_up(fields, "total", [w.pick(("What is the total amount?", "How much is to be paid in total?",
                                             "What is the total including tax?"))], "amount", w.money.accepted(total)),
        *looked_up(fields, "subtotal", [w.pick(("What is the subtotal?", "What is the total before tax?"))], "amount",
                   w.money.accepted(subtotal)),
        *looked_up(fields, "tax", [w.pick(("How much tax is charged?", "What is the amount of tax?"))], "amount",
                   w.money.accepted(tax)),
    ]  # fmt: skip
    if limit > 0 and limit != total:
        wordings = [f"Is the total more than {w.money(limit)}?", f"Does the total exceed {w.money(limit)}?"]
        found.append(yes_no(w, wordings, total > limit, ("total",)))
    if len(items) >= 2:
        a, b = w.some(range(len(items)), 2)
        if items[a].price > items[b].price:
            cents = items[a].price - items[b].price
            wordings = [f"By how much does the unit price of {items[a].name} exceed that of {items[b].name}?"]
            answers = (w.money(cents), *w.money.accepted(cents))
            found.append(asked(w, wordings, answers, "difference", (f"item.{a}.price", f"item.{b}.price")))
    return found
