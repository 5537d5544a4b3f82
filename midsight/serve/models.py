"""The model of a chat server."""

from pathlib import Path

from midsight.api.language import open_plm
from midsight.plm import PLM, packaged


def open_chat_model(
    source: str | None, device: str = "auto", dtype: str = "auto", revision: str | None = None
) -> tuple[PLM, str]:
    """A PLM and the name that requests give it; the packaged language model alone without a source.

    Arguments and errors as `open_plm`.
    """
    model = open_plm(source, device, dtype, revision=revision)
    if source is None:
        return model, packaged.NAME
    folder = Path(source).expanduser()
    return model, folder.resolve().name if folder.is_dir() else source
