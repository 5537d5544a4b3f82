"""Folders that hold a PLM: which layout, reading, building, saving."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from midsight.checkpoints import hub
from midsight.checkpoints.official import describe
from midsight.checkpoints.pretrained import whole_folder
from midsight.checkpoints.reader import named, read_json
from midsight.checkpoints.writer import write_json, write_sharded
from midsight.errors import CheckpointError, ConfigError
from midsight.imports import without_gc
from midsight.pages import cast
from midsight.plm import native, own, perception_lm
from midsight.plm.config import PLMConfig
from midsight.plm.model import PLM, import_transformers, language_config
from midsight.plm.parts import Parts
from midsight.plm.quantized import is_quantized
from midsight.plm.tokenizer import TextCodec, open_tokenizer

PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
Model = TypeVar("Model", bound=PLM)


def resolve(source: str | Path, revision: str | None = None) -> Path:
    """The folder that a source means, downloaded if it must be.

    Raises:
        CheckpointError: no such folder, no such repository, or no network.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{path}: is a file, expected the folder of a PLM with its configuration and tokenizer")
    if hub.REPO_ID.fullmatch(str(source)):
        return hub.snapshot(str(source), revision, PATTERNS)
    raise CheckpointError(f"{source}: there is no such folder (looked in {Path.cwd()})")


def open_folder(kind: type[Model], folder: Path, dtype: torch.dtype | None = None) -> Model:
    """The model in a folder of any known layout, on the CPU, mapped from the file where no dtype is asked for.

    Raises:
        CheckpointError: another layout or architecture, missing files, weights that do not fit.
    """
    with named(folder):
        parts = read(folder)
        return build(kind, parts, dtype, folder)


def read(folder: Path) -> Parts:
    """Configuration and weights of a folder, whatever its layout."""
    if (folder / native.PARAMS).exists():
        return native.read(folder)
    config = _config_json(folder)
    if config.get("format") == own.FORMAT:
        return own.read(folder, config)
    if config.get("format") == own.ADAPTED:
        from midsight.plm import adapted  # it opens other folders by this module

        return adapted.read(folder, config)
    return perception_lm.read(folder, config)


def read_config(folder: Path) -> PLMConfig:
    """The configuration of a folder, whatever its layout; no weight is read.

    Raises:
        CheckpointError: another layout or architecture.
    """
    with named(folder):
        if (folder / native.PARAMS).exists():
            return native.config_of(folder)
        config = _config_json(folder)
        ours = config.get("format") in (own.FORMAT, own.ADAPTED)
        return own.config_of(config) if ours else perception_lm.config_of(folder, config)


def _config_json(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").exists():
        raise CheckpointError(
            "no PLM: expected config.json (transformers' layout) or params.json with consolidated*.pth (the published "
            "one)"
        )
    return read_json(folder / "config.json")


def build(kind: type[Model], parts: Parts, dtype: torch.dtype | None, folder: Path) -> Model:
    """The model of these parts; the tokenizer is theirs, or comes from the folder, where it has one."""
    config = parts.config
    language_model = _language_model(config, parts.language_model, dtype)
    with torch.device("meta"):
        model = kind(config, torch.nn.Identity(), parts.tokenizer or open_tokenizer(folder))
    if config.vision is not None:
        _fill(model.vision_model, parts.vision_model, "the vision tower", dtype)
        _fill(model.vision_projector, parts.vision_projector, "the projector", dtype)
    model.language_model = language_model
    return model.eval()


def save_folder(model: PLM, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Writes transformers' layout, or midsight's own where that has no place; see `PLM.save_pretrained`."""
    return save_parts(take_apart(model), model.tokenizer, folder, dtype)


def save_parts(parts: Parts, tokenizer: TextCodec | None, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """The same for a model that was taken apart."""
    if parts.config.vision is None:
        raise CheckpointError(f"{folder}: a language model alone is not a PLM; save it with transformers")
    layout = perception_lm if fits_transformers(parts) else own
    with whole_folder(folder) as here:
        write_sharded(here, layout.join(parts), dtype=dtype)
        for name, value in layout.describe(parts.config).items():
            write_json(here / name, value)
        if tokenizer is not None:
            tokenizer.save(here)
    return Path(folder)


def fits_transformers(parts: Parts) -> bool:
    """Whether transformers' PerceptionLM has a place for it: patches of 14 pixels, and a decoder named as Llama's."""
    vision = parts.config.vision
    assert vision is not None
    named_so = all(key.startswith(("model.", "lm_head.")) for key in parts.language_model)
    return vision.stem == "patch" and vision.patch_size == 14 and named_so


def take_apart(model: PLM) -> Parts:
    """The model's configuration and weights; a tied output table is left out, and the tower has one dtype."""
    if is_quantized(model.language_model):
        raise ConfigError("quantised weights cannot be saved: load the model without quantize and save that")
    stored = model.vision_model.conv1.weight.dtype  # norms may be in float32 for inference
    tower = {key: value.to(stored) for key, value in model.vision_model.state_dict().items()}
    language_model = dict(model.language_model.state_dict())
    if model.config.tie_word_embeddings:
        language_model.pop("lm_head.weight", None)
    return Parts(model.config, tower, model.vision_projector.state_dict(), language_model)


def _language_model(config: PLMConfig, weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> torch.nn.Module:
    transformers = import_transformers()
    try:
        with without_gc(), torch.device("meta"):  # transformers imports what it needs only here
            text = language_config({**config.text, "tie_word_embeddings": config.tie_word_embeddings})
            empty = transformers.AutoModelForCausalLM.from_config(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"transformers cannot make the language model of this configuration: {error}") from error
    shapes = dict(empty.state_dict())
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
        weights = {key: value for key, value in weights.items() if key != "lm_head.weight"}
    _check(shapes, weights, "the language model")
    dtype = dtype or next(iter(weights.values())).dtype
    weights = {key: cast(value, dtype) for key, value in weights.items()}
    with without_bars(transformers.utils.logging):
        model: torch.nn.Module = type(empty).from_pretrained(None, config=text, state_dict=weights, dtype=dtype)
    return model.eval()


@contextlib.contextmanager
def without_bars(logging: Any) -> Iterator[None]:
    """transformers shows a progress bar of its own for each load; only the command line shows anything here."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _fill(module: torch.nn.Module, weights: Mapping[str, Tensor], what: str, dtype: torch.dtype | None) -> None:
    _check(module.state_dict(), weights, what)
    stored = {key: value if dtype is None else cast(value, dtype) for key, value in weights.items()}
    module.load_state_dict(stored, assign=True)


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    if missing or extra:
        told = f"{len(missing)} tensors are missing" if missing else f"{len(extra)} tensors are left over"
        raise CheckpointError(
            f"the weights of {what} do not fit its configuration: {told}, the first is {(missing or extra)[0]!r}. "
            "The folder is incomplete, or its configuration belongs to other weights"
        )
    for key, tensor in expected.items():
        if tensor.shape != found[key].shape:
            raise CheckpointError(
                f"the weights of {what} do not fit its configuration: {key!r} is {describe(found[key])}, expected "
                f"{tuple(tensor.shape)}"
            )
