"""Which parameters of a model are trained: all, those of one tower, or low-rank adapters beside the linear maps.

Adapters are peft's (LoRA, arXiv 2106.09685). They are merged into the weights behind the last step, so what is saved
is an ordinary model under the published names; the adapters alone are saved beside it in peft's own layout. The fused
projection of queries, keys and values is a bare parameter under its published name and gets none.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from midsight import pe
from midsight.checkpoints import write_safetensors
from midsight.configs import PEConfig, PETextConfig
from midsight.errors import ConfigError, MissingDependencyError
from midsight.train.config import FinetuneConfig, TrainConfig

_ADAPTER = "default"  # peft's name for the only one


def prepare(model: pe.CLIP, config: TrainConfig) -> None:
    """Freezes what is not trained, and puts adapters in, in place.

    A packaged trunk (`PEConfig.stem`) that comes from a start stays as it is unless `finetune.trunk`.

    Raises:
        ConfigError: no linear map has any of the names in `finetune.lora_targets`, or no parameter one in
            `finetune.only`.
        MissingDependencyError: peft is not installed.
    """
    chosen = config.finetune
    if chosen.mode == "lora":
        _inject(model, chosen)
        return
    names = [name for name, _ in model.named_parameters()]
    unknown = [start for start in chosen.only if not any(name.startswith(start) for name in names)]
    if unknown:
        known = ", ".join(sorted({name.rsplit(".", 1)[0] for name in names if name.count(".") < 3}))
        raise ConfigError(f"finetune.only: {unknown[0]!r} begins no parameter's name; there are {known}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not _is_locked(name, chosen))
    if config.model.start and hasattr(model.visual, "stem") and not chosen.trunk:
        model.visual.stem.requires_grad_(False)


def merge(values: Mapping[str, Tensor], vision: PEConfig, text: PETextConfig, chosen: FinetuneConfig) -> dict[str, Any]:
    """Weights of a model with adapters to those of an ordinary one, on the CPU; others as they are."""
    if chosen.mode != "lora":
        return dict(values)
    model = pe.CLIP(vision, text)
    tuner = _inject(model, chosen)
    model.load_state_dict(values)
    return {name: value.detach() for name, value in tuner.merge_and_unload().state_dict().items()}


def save_adapters(
    folder: Path, values: Mapping[str, Tensor], model: pe.CLIP, chosen: FinetuneConfig, alpha: float
) -> None:
    """The adapters as `peft.PeftModel.from_pretrained(model, folder)` reads them.

    Args:
        values: of a model with adapters.
        model: without them; for the names.
        alpha: share of the adapters in what was saved; it goes into them, so that start and adapters give that model.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": value * alpha if ".lora_B." in name else value
        for name, value in values.items()
        if ".lora_" in name
    }
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    _lora_config(model, chosen).save_pretrained(str(folder))


def _is_locked(name: str, chosen: FinetuneConfig) -> bool:
    if name == "logit_scale":
        return False
    if chosen.only and not name.startswith(chosen.only):
        return True
    return chosen.locked == ("image" if name.startswith("visual.") else "text")


def _inject(model: pe.CLIP, chosen: FinetuneConfig) -> Any:
    config = _lora_config(model, chosen)
    from peft import LoraModel

    return LoraModel(model, config, _ADAPTER)


def _lora_config(model: pe.CLIP, chosen: FinetuneConfig) -> Any:
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingDependencyError("finetune.mode lora needs peft: pip install 'midsight[train]'") from error
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    known = {name.rpartition(".")[2] for name in linear}
    unknown = [target for target in chosen.lora_targets if target not in known]
    if unknown or not chosen.lora_targets:
        raise ConfigError(
            f"finetune.lora_targets: {', '.join(map(repr, unknown)) or 'an empty list'} matches nothing in the model; "
            f"expected some of {', '.join(sorted(known))}"
        )
    wanted = [n for n in linear if n.rpartition(".")[2] in chosen.lora_targets and not _is_locked(n, chosen)]
    return LoraConfig(
        r=chosen.lora_rank,
        lora_alpha=chosen.lora_alpha,
        target_modules="|".join(map(re.escape, wanted)),  # a pattern: a list would match the ends of names
    )
