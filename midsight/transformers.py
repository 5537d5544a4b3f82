"""midsight models inside Hugging Face transformers: `import midsight.transformers` registers them.

    import midsight.transformers
    from transformers import AutoModel, AutoProcessor, pipeline

    AutoModel.from_pretrained(folder)      # a folder of save_transformers, or of `midsight convert --to transformers`
    AutoProcessor.from_pretrained(folder)  # pictures and texts to tensors, with the folder's own preprocessing
    pipeline("zero-shot-image-classification", model=folder)

The numbers are those of `midsight.pe`: the same modules run inside. A vision tower alone (PE-Lang, PE-Spatial) has a
model and an image processor, and no tokenizer.
"""

# transformers is typed here and there, and differently in each version:
# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False, warn-unused-ignores=False

import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from midsight import pe
from midsight.checkpoints import Converted, Pretrained, open_pretrained
from midsight.checkpoints.config_files import FORMAT, VERSION, describe_config, digest
from midsight.checkpoints.pretrained import DIGEST, whole_folder
from midsight.checkpoints.reader import TRANSFORMERS
from midsight.checkpoints.writer import SHARD_BYTES, write_sharded
from midsight.configs import MODELS, PEConfig, PETextConfig, PreprocessConfig
from midsight.errors import ConfigError, MissingDependencyError, ShapeError
from midsight.transforms.image import from_config
from midsight.transforms.tokenizer import END, END_ID, START, START_ID, clean, clip_tokenizer

try:
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForZeroShotImageClassification,
        AutoProcessor,
        AutoTokenizer,
        BaseImageProcessor,
        BatchFeature,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerFast,
        ProcessorMixin,
    )
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES
    from transformers.utils.generic import ModelOutput
except ImportError as error:
    raise MissingDependencyError(
        "midsight.transformers needs transformers 5.0 or later: pip install 'midsight[plm]'"
    ) from error

MODEL_TYPE = "midsight_pe"
DEFAULT = MODELS["PE-Core-T16-384"]  # what a configuration without arguments means


class MidsightConfig(PreTrainedConfig):
    """Both towers and the preprocessing, as in midsight's own `config.json`, so that midsight opens the folder too."""

    model_type = MODEL_TYPE

    format: str = FORMAT
    version: int = VERSION
    name: str | None = None
    vision: dict[str, typing.Any] | None = None
    text: dict[str, typing.Any] | None = None
    preprocess: dict[str, typing.Any] | None = None
    metadata: dict[str, typing.Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.vision is None:
            self.vision, self.text = asdict(DEFAULT.vision), asdict(typing.cast(PETextConfig, DEFAULT.text))
            self.name = self.name or DEFAULT.name
        if self.preprocess is None:
            self.preprocess = asdict(PreprocessConfig(self.vision["image_size"]))
        self.metadata = self.metadata or {}
        super().__post_init__(**kwargs)

    @property
    def towers(self) -> tuple[PEConfig, PETextConfig | None]:
        """The two configurations; no text tower for PE-Lang and PE-Spatial."""
        assert self.vision is not None
        return PEConfig(**self.vision), None if self.text is None else PETextConfig(**self.text)


@dataclass
class MidsightOutput(ModelOutput):
    """What the pair gives; the fields are named as CLIP's.

    logits_per_image (images, texts) and logits_per_text are scaled cosines; image_embeds and text_embeds have length 1.
    """

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None


class MidsightModel(PreTrainedModel):
    """`pe.CLIP`, or `pe.VisionTransformer` where there is no text tower, as transformers expects a model."""

    config_class = MidsightConfig
    base_model_prefix = MODEL_TYPE
    main_input_name = "pixel_values"
    input_modalities: typing.Any = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: MidsightConfig) -> None:
        super().__init__(config)
        vision, text = config.towers
        self.clip = pe.VisionTransformer(vision) if text is None else pe.CLIP(vision, text)
        self.post_init()

    @property
    def visual(self) -> pe.VisionTransformer:
        """The vision tower."""
        return self.clip.visual if isinstance(self.clip, pe.CLIP) else self.clip

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_loss: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Images (B, 3, H, W) against texts (N, L).

        Returns:
            `MidsightOutput`; for a vision tower alone what `get_image_features` gives.

        Raises:
            ShapeError: a pair without one of the two inputs.
        """
        if not isinstance(self.clip, pe.CLIP):
            found = self.get_image_features(pixel_values)
            return found if return_dict is not False else found.to_tuple()
        if input_ids is None or pixel_values is None:
            raise ShapeError("the pair needs pixel_values and input_ids; for one of them use get_image_features or "
                             "get_text_features")  # fmt: skip
        image = F.normalize(self.get_image_features(pixel_values).pooler_output, dim=-1)
        text = F.normalize(self.get_text_features(input_ids, attention_mask).pooler_output, dim=-1)
        logits = self.clip.logit_scale.exp().to(image.dtype) * image @ text.T
        loss = _contrastive(logits) if return_loss else None
        output = MidsightOutput(loss, logits, logits.T, text, image)
        return output if return_dict is not False else output.to_tuple()

    def get_image_features(self, pixel_values: Tensor | None = None) -> Any:
        """Embeddings, not normalised, as `pooler_output` (B, D); tokens after the final norm as `last_hidden_state`.

        A tower without pooling (PE-Lang, PE-Spatial) has the mean of its tokens as `pooler_output`.
        """
        if pixel_values is None:
            raise ShapeError("pixel_values are missing: images, float (B, 3, H, W), as the image processor makes them")
        tower = self.visual
        tokens = tower.forward_features(pixel_values, norm=True)
        pooled = tower._pool(tokens)
        pooled = pooled.mean(dim=1) if pooled.ndim == 3 else pooled
        pooled = pooled if tower.output_dim is None else pooled @ tower.proj.to(pooled.dtype)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=pooled)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Embeddings, not normalised, as `pooler_output` (N, D)."""
        if not isinstance(self.clip, pe.CLIP):
            raise ConfigError(f"{self.config.name or 'this model'} is a vision tower alone and has no text features")
        if attention_mask is not None:  # published padding is 0; what follows the end of text has no influence
            input_ids = input_ids.masked_fill(attention_mask == 0, 0)
        return BaseModelOutputWithPooling(pooler_output=self.clip.encode_text(input_ids))

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Recompute the blocks in the backward pass; transformers' own settings for it are not used."""
        self.clip.set_grad_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self.clip.set_grad_checkpointing(False)

    def _init_weights(self, module: Any) -> None:
        """The towers have drawn their weights themselves."""


def _contrastive(logits: Tensor) -> Tensor:
    """CLIP's symmetric loss of matching pairs in one order."""
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class MidsightImageProcessor(BaseImageProcessor):
    """`midsight.transforms` with the folder's own preprocessing: paths, PIL pictures, arrays or tensors to tensors."""

    model_input_names: typing.Any = ("pixel_values",)

    def __init__(self, **config: Any) -> None:
        known = {field.name for field in fields(PreprocessConfig)}
        own = {key: value for key, value in config.items() if key in known}
        super().__init__(**{key: value for key, value in config.items() if key not in known})
        for key, value in asdict(PreprocessConfig(**({"image_size": DEFAULT.vision.image_size} | own))).items():
            setattr(self, key, value)

    @property
    def preprocess_config(self) -> PreprocessConfig:
        """What the attributes say, checked."""
        return PreprocessConfig(**{field.name: getattr(self, field.name) for field in fields(PreprocessConfig)})

    def __call__(  # type: ignore[override]
        self, images: Any, *, return_tensors: str | None = None
    ) -> Any:
        """`pixel_values`, float32 (B, 3, S, S).

        Raises:
            MediaError: a picture that cannot be read.
        """
        return self.preprocess(images, return_tensors=return_tensors)

    def preprocess(  # type: ignore[override]
        self, images: Any, *, return_tensors: str | None = None
    ) -> Any:
        """As calling it."""
        transform = from_config(self.preprocess_config)
        pixels = [transform(image) for image in _flat(images)]
        if return_tensors is None:
            return BatchFeature({"pixel_values": pixels})
        return BatchFeature({"pixel_values": torch.stack(pixels)}, tensor_type=return_tensors)


def _flat(images: Any) -> Sequence[Any]:
    """One picture, a batch of tensors or arrays, or a list, as a list."""
    if isinstance(images, list | tuple):
        return [picture for image in images for picture in _flat(image)]
    return list(images) if getattr(images, "ndim", 3) == 4 else [images]


class MidsightTokenizer(PreTrainedTokenizerFast):
    """CLIP's vocabulary with CLIP's cleaning; a text beyond the context is cut, as published.

    Padding uses the end mark, and `attention_mask` tells where it is; the model puts the published 0 there.
    """

    vocab_files_names: typing.Any = {"tokenizer_file": "tokenizer.json"}
    model_input_names: typing.Any = ("input_ids", "attention_mask")

    def __init__(self, **options: Any) -> None:
        if options.get("tokenizer_file") is None and options.get("tokenizer_object") is None:
            options["tokenizer_object"] = marked_tokenizer()
        marks = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
        super().__init__(**({"model_max_length": 32} | marks | options))

    def _encode_plus(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, **options: Any
    ) -> Any:
        from transformers.tokenization_utils_base import TruncationStrategy

        if options.get("truncation_strategy") in (None, TruncationStrategy.DO_NOT_TRUNCATE):
            options |= {"truncation_strategy": TruncationStrategy.LONGEST_FIRST, "max_length": self.model_max_length}
        return super()._encode_plus(_clean(text), None if text_pair is None else _clean(text_pair), **options)


def _clean(text: Any) -> Any:
    return clean(text) if isinstance(text, str) else [_clean(part) for part in text]


def marked_tokenizer() -> Tokenizer:
    """A copy of midsight's tokenizer that puts the two marks around each text by itself."""
    tokenizer = Tokenizer.from_str(clip_tokenizer().to_str())
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} $B {END}",
        special_tokens=[(START, START_ID), (END, END_ID)],
    )
    return tokenizer


class MidsightProcessor(ProcessorMixin):
    """Image processor and tokenizer in one: `processor(images=..., text=..., return_tensors="pt")`."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)


def save_transformers(
    folder: str | Path,
    pretrained: Pretrained,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = SHARD_BYTES,
) -> Path:
    """Writes a folder that `AutoModel`, `AutoProcessor` and pipelines open once this module is imported.

    midsight opens it as well (`checkpoints.load_pretrained`). Weights are written one tensor at a time.

    Args:
        pretrained: what `checkpoints.open_pretrained` gives.
        dtype: store the weights in this floating dtype; transformers then computes in it unless told otherwise.

    Raises:
        CheckpointError: a value that `dtype` cannot hold.
        OutputError: the folder cannot be written.
    """
    described = describe_config(
        pretrained.name, pretrained.vision, pretrained.text, pretrained.preprocess, pretrained.metadata
    )
    config = MidsightConfig(**described, architectures=[MidsightModel.__name__])
    image_processor = MidsightImageProcessor(**asdict(pretrained.preprocess))
    processor: Any = image_processor
    if pretrained.text is not None:
        tokenizer = MidsightTokenizer(model_max_length=pretrained.text.context_length)
        processor = MidsightProcessor(image_processor, tokenizer)
    weights = {TRANSFORMERS + key: tensor for key, tensor in pretrained.state_dict.items()}
    with whole_folder(folder) as here:
        metadata = {DIGEST: digest(described)}
        write_sharded(here, weights, metadata=metadata, dtype=dtype, max_shard_size=max_shard_size)
        processor.save_pretrained(here)
        config.save_pretrained(here)
    return Path(folder)


def convert(
    source: str | Path,
    folder: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = SHARD_BYTES,
) -> Converted:
    """From any source of weights to a folder of `save_transformers`; what `midsight convert --to transformers` does.

    Raises:
        CheckpointError, UnknownModelError: as `checkpoints.open_pretrained`.
        OutputError: the folder cannot be written.
    """
    pretrained = open_pretrained(source, revision=revision)
    written = save_transformers(folder, pretrained, dtype=dtype, max_shard_size=max_shard_size)
    return Converted(pretrained.name, tuple(sorted(written.iterdir())), len(pretrained.state_dict), ())


def _register() -> None:
    """Makes the Auto classes know the model type; importing twice is fine."""
    AutoConfig.register(MODEL_TYPE, MidsightConfig, exist_ok=True)
    AutoModel.register(MidsightConfig, MidsightModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(MidsightConfig, MidsightModel, exist_ok=True)
    # Pipelines compare class names with this table, which `register` does not extend.
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES[MODEL_TYPE] = MidsightModel.__name__
    AutoTokenizer.register(MidsightConfig, tokenizer_class=MidsightTokenizer, exist_ok=True)
    AutoImageProcessor.register(
        MidsightConfig,
        image_processor_classes={"pil": MidsightImageProcessor, "torchvision": MidsightImageProcessor},
        exist_ok=True,
    )
    AutoProcessor.register(MidsightConfig, MidsightProcessor, exist_ok=True)


_register()
