"""The model that answers where none is named."""

from pathlib import Path

import midsight
from midsight.plm.model import PLM
from midsight.plm.packaged import NAME, open_smollm2

EMBEDDED = Path(midsight.__file__).parent / "assets" / "embedded_lang"
BLIND = "the embedded model reads a page's text; of pictures it only names things. One that sees: --plm FOLDER."
PLAIN = f"no model that reads pages is embedded: {NAME} does it. One that sees: --plm FOLDER."


def open_default() -> tuple[PLM, str]:
    """The embedded model, or else a language model as it came; and a sentence where it sees nothing.

    Raises:
        MissingDependencyError: the package of the language model is not installed.
    """
    if (EMBEDDED / "config.json").exists():
        model = PLM.from_pretrained(EMBEDDED)
        return model, BLIND if model.config.vision is None else ""
    return open_smollm2(), PLAIN
