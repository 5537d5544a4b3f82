"""Configurations: the two towers, the preprocessing, and every published model by name. No torch.

Sources: PE paper (arXiv 2504.13181) tables 4, 5, 6, 13 and 17, and the published configuration and README.
"""

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from midsight.errors import ConfigError, UnknownModelError

Family = Literal["core", "lang", "spatial", "embedded"]
STEMS: dict[str, int] = {"efficientnet_lite2": 32}  # packaged trunk -> its stride, pixels


@dataclass(frozen=True)
class PEConfig:
    """The vision tower. Field names and defaults are the published ones, except `stem`.

    `image_size` is the side of the square that the stored position table was made for; inputs may have any size.
    `stem` is "patch" in every published model: a convolution of kernel and stride `patch_size`. The small embedded
    models put a packaged convolutional trunk there instead; its stride is then the `patch_size`.
    """

    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float
    output_dim: int | None
    ls_init_value: float | None = None
    drop_path: float = 0.0
    image_size: int = 224
    use_abs_posemb: bool = True
    use_cls_token: bool = False
    use_rope2d: bool = True
    pool_type: Literal["attn", "tok", "avg", "none"] = "attn"
    attn_pooler_heads: int = 8
    use_ln_pre: bool = True
    use_ln_post: bool = True
    stem: str = "patch"

    def __post_init__(self) -> None:
        for field in ("patch_size", "width", "layers", "heads", "image_size", "attn_pooler_heads"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.use_rope2d and (self.width // self.heads) % 4:
            raise ConfigError(f"2D RoPE needs a head width that is a multiple of 4, got {self.width // self.heads}")
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.pool_type not in ("attn", "tok", "avg", "none"):
            raise ConfigError(f"pool_type must be attn, tok, avg or none, got {self.pool_type!r}")
        if self.pool_type == "tok" and not self.use_cls_token:
            raise ConfigError("pool_type 'tok' takes the class token, so it needs use_cls_token=True")
        if self.stem != "patch" and STEMS.get(self.stem) != self.patch_size:
            known = ", ".join(f"{name!r} (patch_size {stride})" for name, stride in STEMS.items())
            raise ConfigError(f"stem must be 'patch' or {known}; got {self.stem!r} with patch_size {self.patch_size}")

    @property
    def grid(self) -> int:
        """Patches along one side of the native square."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class PETextConfig:
    """The text tower: causal, pooled at the end-of-text token. Field names are the published ones."""

    context_length: int
    width: int
    heads: int
    layers: int
    output_dim: int
    mlp_ratio: float = 4.0
    vocab_size: int = 49408

    def __post_init__(self) -> None:
        for field in ("context_length", "width", "heads", "layers", "output_dim", "vocab_size"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True)
class PreprocessConfig:
    """How pixels become the tensor that a checkpoint was trained on.

    Published: bilinear "squash" to a square, mean and standard deviation 0.5 per channel (paper, B.1.1).
    """

    image_size: int  # side of the square, pixels
    resize: Literal["squash", "center_crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # RGB, of values in [0, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"image_size must be at least 1 pixel, got {self.image_size}")
        if self.resize not in ("squash", "center_crop"):
            raise ConfigError(f"resize must be squash or center_crop, got {self.resize!r}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ConfigError(f"interpolation must be bilinear or bicubic, got {self.interpolation!r}")
        object.__setattr__(self, "mean", tuple(self.mean))  # lists come from JSON
        object.__setattr__(self, "std", tuple(self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"mean and std are three numbers each, std above 0; got {self.mean} and {self.std}")


@dataclass(frozen=True)
class ModelInfo:
    """One published model: its towers, where its weights are, and what was published about it."""

    name: str
    family: Family
    vision: PEConfig
    text: PETextConfig | None = None
    figures: tuple[tuple[str, float], ...] = ()  # (what, percent or RMSE), as printed by the source
    source: str = "PE paper, tables 5 and 6"

    @property
    def preprocess(self) -> PreprocessConfig:
        """What the checkpoint expects of its input."""
        return PreprocessConfig(image_size=self.vision.image_size)

    @property
    def repo_id(self) -> str:
        """Hugging Face repository that holds the weights."""
        return f"facebook/{self.name}"

    @property
    def filename(self) -> str:
        """Weight file inside the repository."""
        return f"{self.name}.pt"


_L = dict(patch_size=14, width=1024, heads=16, mlp_ratio=4.0)
_G = dict(patch_size=14, width=1536, heads=16, mlp_ratio=8960 / 1536)
_DENSE = dict(output_dim=None, pool_type="none", use_ln_post=False)  # lang and spatial: features only


def _small(width: int, heads: int, **rest: object) -> PEConfig:
    """T, S and B: patches of 16 pixels, 12 blocks, a class token."""
    values = dict(patch_size=16, width=width, heads=heads, layers=12, mlp_ratio=4.0, use_cls_token=True) | rest
    return PEConfig(**values)  # type: ignore[arg-type]


def _large(base: dict[str, float], **rest: object) -> PEConfig:
    """L and G: patches of 14 pixels."""
    return PEConfig(**(base | rest))  # type: ignore[arg-type]


def _text(width: int, heads: int, layers: int, output_dim: int, context_length: int = 32) -> PETextConfig:
    return PETextConfig(context_length, width, heads, layers, output_dim)


def _zero_shot(in1k: float, coco_t2i: float, k400: float, vtt_t2v: float) -> tuple[tuple[str, float], ...]:
    return (("ImageNet-1k top-1", in1k), ("COCO t2i R@1", coco_t2i), ("K400 top-1", k400), ("MSR-VTT t2v R@1", vtt_t2v))


def _dense(davis: float, ade20k: float) -> tuple[tuple[str, float], ...]:
    return (("DAVIS J&F", davis), ("ADE20K mIoU", ade20k))


def _language(ocr: float, vqa: float) -> tuple[tuple[str, float], ...]:
    return (("OCR QA average", ocr), ("VQA average", vqa))


_README, _NEURIPS, _MLLM = "published README", "PE paper (NeurIPS), table 37", "PE paper, table 10"
_TILED = "published without figures of its own"

_PUBLISHED = (
    ModelInfo("PE-Core-T16-384", "core", _small(192, 3, output_dim=512, image_size=384), _text(512, 8, 12, 512),
              _zero_shot(62.1, 33.0, 41.5, 28.8), _README),
    ModelInfo("PE-Core-S16-384", "core", _small(384, 6, output_dim=512, image_size=384), _text(512, 8, 12, 512),
              _zero_shot(72.7, 42.6, 55.0, 39.3), _README),
    ModelInfo("PE-Core-B16-224", "core", _small(768, 12, output_dim=1024, image_size=224), _text(1024, 16, 24, 1024),
              _zero_shot(78.4, 50.9, 65.6, 47.6)),
    ModelInfo("PE-Core-L14-336", "core", _large(_L, layers=24, output_dim=1024, image_size=336, use_cls_token=True),
              _text(1024, 16, 24, 1024), _zero_shot(83.5, 57.1, 73.4, 50.3)),
    ModelInfo("PE-Core-G14-448", "core", _large(_G, layers=50, output_dim=1280, image_size=448),
              _text(1280, 20, 24, 1280, context_length=72), _zero_shot(85.4, 58.1, 76.9, 51.2)),
    *(
        ModelInfo(f"PE-Lang-{size}14-448{suffix}", "lang",
                  _large(base, layers=layers, image_size=448, ls_init_value=0.1, use_cls_token=size == "L", **_DENSE),
                  None, figures, source)
        for size, base, layers, published in (
            ("L", _L, 23, _language(71.1, 77.1)), ("G", _G, 47, _language(72.4, 78.1))
        )
        for suffix, figures, source in (("", published, _MLLM), ("-Tiling", (), _TILED))
    ),
    *(
        ModelInfo(f"PE-Spatial-{size}16-512", "spatial", _small(width, heads, image_size=512, **_DENSE), None,
                  _dense(davis, ade20k), _NEURIPS)
        for size, width, heads, davis, ade20k in (
            ("T", 192, 3, 54.6, 27.6), ("S", 384, 6, 57.5, 37.5), ("B", 768, 12, 58.4, 44.4)
        )
    ),
    ModelInfo("PE-Spatial-L14-448", "spatial", _large(_L, layers=24, image_size=448, use_cls_token=True, **_DENSE),
              None, _dense(60.1, 48.1), _NEURIPS),
    ModelInfo("PE-Spatial-G14-448", "spatial", _large(_G, layers=50, image_size=448, ls_init_value=0.1, **_DENSE),
              None, _dense(61.5, 48.9), _NEURIPS),
)  # fmt: skip

MODELS: dict[str, ModelInfo] = {model.name: model for model in _PUBLISHED}


def find_model(name: str) -> ModelInfo:
    """The published model of that name.

    Raises:
        UnknownModelError: no such name; the message suggests the nearest ones.
    """
    if name in MODELS:
        return MODELS[name]
    close = difflib.get_close_matches(name.upper(), [n.upper() for n in MODELS], n=3, cutoff=0.5)
    nearest = [n for c in close for n in MODELS if n.upper() == c]
    hint = f"Did you mean {', '.join(nearest)}?" if nearest else f"The published names are {', '.join(MODELS)}."
    raise UnknownModelError(f"there is no model named {name!r}. {hint}")


def with_image_size(config: PEConfig, image_size: int) -> PEConfig:
    """The same tower with a position table for another square."""
    return replace(config, image_size=image_size)
