"""The model that answers where none is named."""

from pathlib import Path

import midsight
from midsight.plm.model import PLM
from midsight.plm.packaged import NAME, open_smollm2

EMBEDDED = Path(midsight.__file__).parent / "assets" / "embedded_lang"
BLIND = f"no model that sees is embedded: {NAME} reads the pages' text alone. One that sees is given with --plm FOLDER."


def open_default() -> tuple[PLM, str]:
    """The embedded vision-language model, or else a language model alone and a sentence that says so.

    Raises:
        MissingDependencyError: neither is there.
    """
    if (EMBEDDED / "config.json").exists():
        return PLM.from_pretrained(EMBEDDED), ""
    return open_smollm2(), BLIND
