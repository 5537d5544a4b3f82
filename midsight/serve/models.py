"""The model of a chat server."""

from pathlib import Path

import torch

from midsight.api.loading import pick_device
from midsight.errors import ConfigError
from midsight.evaluate.language.model import DTYPES
from midsight.plm import PLM, packaged


def open_chat_model(
    source: str | None, device: str = "auto", dtype: str = "auto", revision: str | None = None
) -> tuple[PLM, str]:
    """A PLM and the name that requests give it; the packaged language model alone without a source.

    Args:
        source: a folder or a Hugging Face repository, as `PLM.from_pretrained` takes it.
        device: "auto" takes the best that is there.
        dtype: "fp32", "bf16"; "auto" is fp32 on the CPU and the stored one elsewhere.

    Raises:
        CheckpointError: the model cannot be loaded.
        ConfigError: a device or dtype that cannot be.
        MissingDependencyError: transformers, or the package with the language model, is not installed.
    """
    where = pick_device(device)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be {', '.join(DTYPES)}, got {dtype!r}")
    wanted = torch.float32 if dtype == "auto" and where.type == "cpu" else DTYPES[dtype]
    if source is None:
        return packaged.open_smollm2(wanted).to(where), packaged.NAME
    model = PLM.from_pretrained(source, dtype=wanted, device=where, revision=revision)
    folder = Path(source).expanduser()
    return model, folder.resolve().name if folder.is_dir() else source
