"""transformers' layout of PerceptionLM, both ways: `config.json`, `generation_config.json`, safetensors.

The tower is a timm model there, so its configuration is a timm name with overrides, and its weights have timm's names.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from midsight.checkpoints.perception_lm import from_perception_lm, to_perception_lm
from midsight.checkpoints.reader import read_json, read_tensors
from midsight.checkpoints.renames import StateDict, under
from midsight.checkpoints.timm import NAMES
from midsight.configs import MODELS, PEConfig
from midsight.errors import CheckpointError
from midsight.plm.config import PLMConfig
from midsight.plm.parts import Parts, plm_config, tower_config

MODEL_TYPE = "perception_lm"
IMAGE, VIDEO = 128002, 128003  # the published tokens
OURS = "midsight"  # key of config.json, which transformers passes over
LANGUAGE = "model.language_model."
PROJECTOR = "model.multi_modal_projector."
LAYERS = (("linear_1.", "projector.0."), ("linear_2.", "projector.2."))  # transformers, published
FIELDS = {  # timm's argument: field of PEConfig
    "embed_dim": "width",
    "depth": "layers",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "img_size": "image_size",
    "init_values": "ls_init_value",
    "drop_path_rate": "drop_path",
    "use_post_transformer_norm": "use_ln_post",
}
HANDLED = {*FIELDS, "global_pool", "ref_feat_shape", "num_classes", "in_chans", "dynamic_img_size"}
ARCHITECTURES = {False: "vit_pe_core_gigantic_patch14_448", True: "vit_pe_core_large_patch14_336"}  # by class token


def read(folder: Path, config: Mapping[str, Any]) -> Parts:
    """Configuration and weights of a folder in transformers' layout.

    Raises:
        CheckpointError: another architecture, a missing, cut or foreign file.
    """
    read_config = config_of(folder, config)
    tensors = read_tensors(folder)
    language = {f"model.{key}": value for key, value in under(LANGUAGE, tensors).items()}
    if "lm_head.weight" in tensors:
        language["lm_head.weight"] = tensors["lm_head.weight"]
    if "lm_head.weight" not in tensors:
        read_config = replace(read_config, tie_word_embeddings=True)
    return Parts(read_config, from_perception_lm(tensors), _projector(tensors), language)


def config_of(folder: Path, config: Mapping[str, Any]) -> PLMConfig:
    """The configuration alone; whether tables are tied is what the file says.

    Raises:
        CheckpointError: another architecture.
    """
    if config.get("model_type") != MODEL_TYPE:
        found = config.get("model_type") or config.get("architectures")
        raise CheckpointError(
            f"config.json tells of {found!r}, expected {MODEL_TYPE!r}: this folder holds another architecture"
        )
    text, vision = config.get("text_config"), config.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict):
        raise CheckpointError("config.json: expected text_config and vision_config, each an object")
    tower = tower_from_timm(vision)
    if bool(config.get("vision_use_cls_token", True)) != tower.use_cls_token:
        raise CheckpointError("config.json: vision_use_cls_token is not what the tower has")
    image, video = int(config.get("image_token_id", IMAGE)), config.get("video_token_id", VIDEO)
    return plm_config(
        dict(
            vision=tower,
            text={"model_type": "llama", **text},
            projector_pooling_ratio=int(config.get("projector_pooling_ratio", 1)),
            image_token_id=image,
            video_token_id=None if video == image else video,
            stop_token_ids=_stop_tokens(folder, text),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            **_limits(folder),
            **_ours(config),
        )
    )


def join(parts: Parts) -> StateDict:
    """All weights under transformers' names."""
    named = dict(to_perception_lm(parts.vision_model))
    for theirs, published in LAYERS:
        for key, value in under(published, parts.vision_projector).items():
            named[PROJECTOR + theirs + key] = value
    for key, value in parts.language_model.items():
        named[key if key.startswith("lm_head.") else LANGUAGE + key.removeprefix("model.")] = value
    return named


def describe(config: Any) -> dict[str, dict[str, Any]]:
    """The configuration files of a folder, by name."""
    text = dict(config.text)
    settings = dict(
        architectures=["PerceptionLMForConditionalGeneration"],
        model_type=MODEL_TYPE,
        text_config={**text, "tie_word_embeddings": config.tie_word_embeddings},
        vision_config=tower_to_timm(config.vision),
        vision_use_cls_token=config.vision.use_cls_token,
        projector_pooling_ratio=config.projector_pooling_ratio,
        image_token_id=config.image_token_id,
        video_token_id=_video_token(config),
        tie_word_embeddings=config.tie_word_embeddings,
    )
    generation = dict(eos_token_id=list(config.stop_token_ids), do_sample=False)
    processor = dict(
        image_processor_type="PerceptionLMImageProcessor",
        processor_class="PerceptionLMProcessor",
        vision_input_type="thumb+tile" if config.max_tiles > 1 else "vanilla",
        tile_size=config.tile,
        max_num_tiles=config.max_tiles,
        max_frame_tiles=1,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=3,
    )
    settings[OURS] = {**config.metadata, "max_frames": config.max_frames}
    frames = dict(
        video_processor_type="PerceptionLMVideoProcessor",
        size=dict(height=config.tile, width=config.tile),
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=3,
        num_frames=config.max_frames,
    )
    together = dict(
        processor_class="PerceptionLMProcessor",
        patch_size=config.vision.patch_size,
        pooling_ratio=config.projector_pooling_ratio,
    )
    return {
        "config.json": settings,
        "generation_config.json": generation,
        "preprocessor_config.json": processor,
        "video_preprocessor_config.json": frames,
        "processor_config.json": together,
    }


def _video_token(config: Any) -> int:
    """Frames that stand at image tokens: the published models have a free token behind; for others it is the same one,
    for the next may be a word."""
    if config.video_token_id is not None:
        return int(config.video_token_id)
    return VIDEO if config.image_token_id == IMAGE else int(config.image_token_id)


def tower_from_timm(vision: Mapping[str, Any]) -> PEConfig:
    """The tower of a timm name with overrides.

    Raises:
        CheckpointError: not a PE of timm, or an override that is not known.
    """
    architecture = str(vision.get("architecture", "")).partition(".")[0]
    known = {timm.partition(".")[0]: MODELS[name].vision for name, timm in reversed(NAMES.items())}
    if architecture not in known:
        raise CheckpointError(
            f"config.json: vision_config names {architecture!r}, expected a PE of timm: {', '.join(sorted(known))}"
        )
    arguments = vision.get("model_args") or {}
    unknown = sorted(arguments.keys() - HANDLED)
    if unknown:
        raise CheckpointError(f"config.json: vision_config overrides {unknown[0]!r}, which is not known here")
    values = asdict(known[architecture]) | dict(output_dim=None, pool_type="none")
    for theirs, ours in FIELDS.items():
        if theirs in arguments:
            value = arguments[theirs]
            values[ours] = value[0] if theirs == "img_size" and isinstance(value, list) else value
    tower = tower_config(values)
    reference = arguments.get("ref_feat_shape")
    if arguments.get("global_pool", "") != "" or (reference and list(reference) != [tower.grid] * 2):
        raise CheckpointError(
            "config.json: the tower must keep its tokens (global_pool '') and have its own grid as ref_feat_shape, "
            f"found {arguments.get('global_pool')!r} and {reference} for a grid of {tower.grid}"
        )
    return tower


def tower_to_timm(config: PEConfig) -> dict[str, Any]:
    """The tower as transformers' `vision_config`."""
    arguments = dict(
        embed_dim=config.width,
        depth=config.layers,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        img_size=[config.image_size] * 2,
        global_pool="",
        use_post_transformer_norm=config.use_ln_post,
        init_values=config.ls_init_value,
        ref_feat_shape=[config.grid] * 2,
    )
    architecture = ARCHITECTURES[config.use_cls_token]
    if config.patch_size != 14:
        raise CheckpointError(
            f"transformers' PerceptionLM has towers with patches of 14 pixels; this one has {config.patch_size}"
        )
    return dict(model_type="timm_wrapper", architecture=architecture, model_args=arguments, do_pooling=True)


def _projector(tensors: StateDict) -> StateDict:
    found: StateDict = {}
    for theirs, published in LAYERS:
        found |= {published + key: value for key, value in under(PROJECTOR + theirs, tensors).items()}
    return found


def _stop_tokens(folder: Path, text: Mapping[str, Any]) -> tuple[int, ...]:
    """End tokens of generation_config.json, which go before those of config.json."""
    path = folder / "generation_config.json"
    given = read_json(path).get("eos_token_id") if path.exists() else None
    given = text.get("eos_token_id", [128001, 128009]) if given is None else given
    return tuple(int(token) for token in (given if isinstance(given, list) else [given]))


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    """What only midsight writes."""
    if not isinstance(found := config.get(OURS), dict):
        return {}
    metadata = {key: value for key, value in found.items() if key != "max_frames"}
    frames = {"max_frames": int(found["max_frames"])} if "max_frames" in found else {}
    return {"metadata": metadata, **frames}


def _limits(folder: Path) -> dict[str, int]:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return {}
    settings = read_json(path)
    if settings.get("vision_input_type") == "vanilla":
        return {"max_tiles": 1}
    return {"max_tiles": int(settings["max_num_tiles"])} if "max_num_tiles" in settings else {}
