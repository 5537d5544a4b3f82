"""A language model or PerceptionLM by words: where it is, on which device, in which dtype."""

from pathlib import Path

import torch

from midsight.api.loading import pick_device
from midsight.errors import ConfigError
from midsight.plm import PLM, packaged

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def open_plm(
    source: str | Path | None, device: str = "auto", dtype: str = "auto", *, revision: str | None = None
) -> PLM:
    """A PLM ready to answer.

    Args:
        source: a folder or a Hugging Face repository, as `PLM.from_pretrained` takes it; None is the packaged language
            model alone.
        device: "auto" takes the best that is there.
        dtype: "fp32", "bf16"; "auto" is fp32 on the CPU and the stored one elsewhere.
        revision: branch, tag or commit of a repository.

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
        return packaged.open_smollm2(wanted).to(where)
    return PLM.from_pretrained(source, dtype=wanted, device=where, revision=revision)
