"""Numbers as documents write them."""

import re

_NUMBER = re.compile(r"[+-]?\d[\d.,'\N{NO-BREAK SPACE} ]*")


def number(text: str) -> float | None:
    """The number in a text with its unit: `1,037.20`, `39,99 kr`, `48%`; None where there is none or more than one."""
    found = _NUMBER.findall(text)
    if len(found) != 1 or sum(c.isalpha() for c in text) > 5:
        return None
    digits = re.sub(r"[' \N{NO-BREAK SPACE}]", "", found[0]).rstrip(".,")
    last = max(digits.rfind("."), digits.rfind(","))
    if last >= 0 and len(digits) - last - 1 != 3:  # three digits behind the last sign are thousands
        return float(re.sub(r"[.,]", "", digits[:last]) + "." + digits[last + 1 :])
    return float(re.sub(r"[.,]", "", digits))
