"""The models of a server."""

from pathlib import Path

from midsight.api.language import open_plm
from midsight.plm import PLM, packaged


def open_chat_model(
    source: str | None, device: str = "auto", dtype: str = "auto", revision: str | None = None
) -> tuple[PLM, str]:
    """A PLM and the name that requests give it; the packaged language model alone without a source, or by its name.

    Arguments and errors as `open_plm`.
    """
    if source in (None, packaged.NAME):
        return open_plm(None, device, dtype), packaged.NAME
    model = open_plm(source, device, dtype, revision=revision)
    folder = Path(str(source)).expanduser()
    return model, folder.resolve().name if folder.is_dir() else source
