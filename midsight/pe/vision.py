"""The vision tower (PE paper, section 2 and table 17; published `pe.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from midsight.checkpoints import load_tower
from midsight.configs import MODELS, PEConfig, find_model
from midsight.errors import ConfigError, LayerError, ShapeError
from midsight.pe import gpu, packed, stem
from midsight.pe.blocks import NORM_EPS, AttentionPooling, ResidualAttentionBlock, Transformer, normal_parameter
from midsight.pe.rope import Rope, RopeTables

Out = TypeVar("Out", Tensor, list[Tensor])


class VisionTransformer(nn.Module):
    """Images to tokens, maps or embeddings.

    The grid is (H // patch_size, W // patch_size) for any H and W: the position table is resampled bilinearly, RoPE
    counts patches.
    """

    def __init__(self, config: PEConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_size, self.width, self.image_size = config.patch_size, config.width, config.image_size
        self.use_cls_token, self.output_dim = config.use_cls_token, config.output_dim
        width, scale = config.width, config.width**-0.5
        if config.stem == "patch":
            self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        else:
            self.stem = stem.build(config.stem)
            self.conv1 = nn.Conv2d(self.stem.out_channels, width, 1, bias=False)
        if config.use_cls_token:
            self.class_embedding = normal_parameter(width, std=scale)
        if config.use_abs_posemb:
            rows = config.grid**2 + int(config.use_cls_token)
            self.positional_embedding = normal_parameter(rows, width, std=scale)
        self.ln_pre = nn.LayerNorm(width, eps=NORM_EPS) if config.use_ln_pre else nn.Identity()
        self.transformer = Transformer(
            [
                ResidualAttentionBlock(width, config.heads, config.mlp_ratio, config.ls_init_value, config.drop_path)
                for _ in range(config.layers)
            ]
        )
        self.ln_post = nn.LayerNorm(width, eps=NORM_EPS) if config.use_ln_post else nn.Identity()
        if config.pool_type == "attn":
            self.attn_pool = AttentionPooling(width, config.attn_pooler_heads)
        if config.output_dim is not None:
            self.proj = normal_parameter(width, config.output_dim, std=scale)
        self._rope_tables = RopeTables(width // config.heads, class_token=config.use_cls_token)
        self._checkpointing = False
        self._packed: packed.PackedTower | gpu.GpuTower | None = None

    @classmethod
    def available_configs(cls) -> list[str]:
        """Names of all published towers."""
        return list(MODELS)

    @classmethod
    def from_config(
        cls,
        name: str | PEConfig,
        pretrained: bool = False,
        checkpoint_path: str | Path | None = None,
        **overrides: Any,
    ) -> Self:
        """A tower by published name, or of a configuration of one's own.

        Args:
            name: a published name, or a `PEConfig`.
            pretrained: load weights, from `checkpoint_path` or else from the model's Hugging Face repository.
            checkpoint_path: file, folder, repository id, or `hf://repository:file`.
            **overrides: fields of `PEConfig` to replace, such as `drop_path=0.1`.

        Raises:
            UnknownModelError: no such name.
            ConfigError: an override that is no field of `PEConfig`.
            CheckpointError: weights that are missing, cut, foreign, or of another configuration.
        """
        config = override(find_model(name).vision if isinstance(name, str) else name, overrides)
        if not pretrained:
            return cls(config)
        with torch.device("meta"):
            model = cls(config)
        model.load_state_dict(load_tower(checkpoint_path if checkpoint_path is not None else name, config), assign=True)
        return model.eval()

    @property
    def layers(self) -> int:
        """Blocks that the tower has now; `truncate` lowers it."""
        return len(self.transformer.resblocks)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self._checkpointing = enable

    def truncate(self, layer_idx: int) -> None:
        """Delete all blocks behind `layer_idx` (0-based, negative from the end), in place.

        Raises:
            LayerError: an index outside the tower.
        """
        keep = self._layer(layer_idx) + 1
        self.transformer.resblocks = self.transformer.resblocks[:keep]
        self.config = replace(self.config, layers=keep)
        if self._packed is not None:
            self._packed.truncate(keep)

    def forward(self, x: Tensor, layer_idx: int = -1, strip_cls_token: bool = False) -> Tensor:
        """Embeddings, not normalised: features with the final norm, pooled, projected.

        Args:
            x: images, float (B, 3, H, W), normalised as the checkpoint expects.
            layer_idx: the block whose output is pooled.
            strip_cls_token: leave the class token out of what is pooled.

        Returns:
            (B, output_dim); for towers without pooling, tokens (B, N, W).
        """
        return self._pass(self._embeddings, x, self._layer(layer_idx), strip_cls_token)

    def forward_features(
        self, x: Tensor, norm: bool = False, layer_idx: int = -1, strip_cls_token: bool = False
    ) -> Tensor:
        """Tokens after one block; no later block is computed.

        Args:
            x: images, float (B, 3, H, W), normalised.
            norm: apply the final norm, where the tower has one.
            layer_idx: 0-based, negative from the end.
            strip_cls_token: return patch tokens only.

        Returns:
            tokens (B, N, W): the class token first, if any, then patches in raster order.

        Raises:
            ShapeError: `x` is not (B, 3, H, W) of a floating dtype, or is smaller than one patch.
            LayerError: an index outside the tower.
        """
        return self._pass(self._features, x, self._layer(layer_idx), strip_cls_token, norm)

    def forward_intermediates(
        self, x: Tensor, layers: Sequence[int], as_maps: bool = False, norm: bool = False
    ) -> list[Tensor]:
        """Outputs of several blocks in one pass; nothing past the last one asked for is computed.

        Args:
            x: images, float (B, 3, H, W), normalised.
            layers: block indices, 0-based, negative from the end, in any order.
            as_maps: feature maps (B, C, H // patch_size, W // patch_size) without the class token, else tokens
                (B, N, C).
            norm: apply the final norm to each, where the tower has one.

        Raises:
            ShapeError: `x` is not (B, 3, H, W) of a floating dtype, or is smaller than one patch.
            LayerError: an index outside the tower, or no index at all.

        Source: PE paper, section 3 (layer-wise analysis).
        """
        if not layers:
            raise LayerError(f"name at least one layer, 0 to {self.layers - 1} or negative from the end")
        return self._pass(self._intermediates, x, tuple(self._layer(index) for index in layers), as_maps, norm)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """What `forward` makes of tokens (B, N, W) of any block: final norm, pooled, projected, (B, output_dim)."""
        return self._projected(self.ln_post(tokens))

    def pack(self, dtype: torch.dtype = torch.float32, graphs: bool = False) -> Self:
        """Prepare inference where the weights are, on a CPU or a CUDA device: fewer and larger steps.

        In float32 the results stay those of the plain tower (relative error under 5e-6). In bfloat16 the linear maps
        and attention compute in bfloat16 while the residual stream and the norms stay in float32. The parameters
        remain as they are; moving, training or loading weights drops the packed copies. On a CPU the process keeps
        freed memory for its next tensors from then on (`threads.keep_freed_memory`). With `graphs`,
        on CUDA, small batches become CUDA graphs when their shape comes for the second time; `midsight.load` says what
        is known about them.
        """
        on_gpu, tower = self.conv1.weight.is_cuda, self.eval()
        self._packed = gpu.GpuTower(tower, dtype, graphs) if on_gpu else packed.PackedTower(tower, dtype)
        return self

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._packed = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args)

    def _layer(self, index: int) -> int:
        if not -self.layers <= index < self.layers:
            raise LayerError(
                f"layer_idx {index} is outside the tower, which has {self.layers} blocks: "
                f"0 to {self.layers - 1}, or -{self.layers} to -1 from the end"
            )
        return index % self.layers

    def _pass(self, function: Callable[..., Out], x: Tensor, *arguments: Any) -> Out:
        """`function(x, *arguments)`, by way of a CUDA graph where the packed tower sees fit."""
        if isinstance(self._packed, gpu.GpuTower) and not torch.is_grad_enabled():
            return self._packed(function, x, *arguments)
        return function(x, *arguments)

    def _embeddings(self, x: Tensor, layer: int, strip_cls_token: bool) -> Tensor:
        return self._projected(self._features(x, layer, strip_cls_token, norm=True))

    def _projected(self, x: Tensor) -> Tensor:
        x = self._pool(x)
        return x if self.output_dim is None else x @ self.proj.to(x.dtype)

    def _features(self, x: Tensor, layer: int, strip_cls_token: bool, norm: bool) -> Tensor:
        (x,) = self._run(x, [layer])
        x = self.ln_post(x) if norm else x
        return x[:, 1:] if strip_cls_token and self.use_cls_token else x

    def _intermediates(self, x: Tensor, layers: tuple[int, ...], as_maps: bool, norm: bool) -> list[Tensor]:
        rows, columns = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        outputs = self._run(x, list(layers))
        if norm:
            outputs = [self.ln_post(tokens) for tokens in outputs]
        if not as_maps:
            return outputs
        first = int(self.use_cls_token)
        return [tokens[:, first:].transpose(1, 2).unflatten(2, (rows, columns)) for tokens in outputs]

    def _run(self, x: Tensor, layers: list[int]) -> list[Tensor]:
        """Tokens after each of `layers`, in that order, from one pass."""
        check_images(x, self.patch_size)
        rows, columns = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        rope = self._rope_tables.get(rows, columns, x.device) if self.config.use_rope2d else None
        fast = self._packed if not torch.is_grad_enabled() else None
        x = self._embed(x, fast)
        if isinstance(fast, gpu.GpuTower):
            return fast.run(x, rope, layers)
        wanted: dict[int, Tensor] = {}
        for index in range(max(layers) + 1):
            x = fast.block(index, x, rope) if fast else self._block(index, x, rope)
            if index in layers:
                wanted[index] = x
        return [wanted[index] for index in layers]

    def _block(self, index: int, x: Tensor, rope: Rope | None) -> Tensor:
        block = self.transformer.resblocks[index]
        if self._checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, rope, use_reentrant=False)
        return block(x, rope)

    def _embed(self, x: Tensor, fast: packed.PackedTower | gpu.GpuTower | None) -> Tensor:
        """Images to tokens (B, N, W), with class token and positions, ready for the first block."""
        rows, columns = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        if isinstance(fast, packed.PackedTower) or (fast and self.config.stem == "patch"):
            x = fast.patches(x)
        elif self.config.stem != "patch":
            x = self.conv1(self.stem(x)).flatten(2).transpose(1, 2)  # B, N, W
        else:
            x = self.conv1(x).flatten(2).transpose(1, 2)
        if isinstance(fast, gpu.GpuTower):
            first = self.class_embedding if self.use_cls_token else None
            return self.ln_pre(
                fast.placed(x, first, self._positions(rows, columns) if self.config.use_abs_posemb else None)
            )
        if self.use_cls_token:
            x = torch.cat((self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x), dim=1)
        if self.config.use_abs_posemb:
            x = x + self._positions(rows, columns).to(x.dtype)
        return self.ln_pre(x)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The position table at a grid: class row kept, the rest bilinear, not antialiased, as published."""
        table, grid = self.positional_embedding, self.config.grid
        if isinstance(rows, int) and (rows, columns) == (grid, grid):  # no int: torch.export, any grid
            return table
        first = int(self.use_cls_token)
        native = table[first:].unflatten(0, (grid, grid)).permute(2, 0, 1)[None]  # 1, W, grid, grid
        resized = F.interpolate(native, size=(rows, columns), mode="bilinear", align_corners=False)
        return torch.cat((table[:first], resized[0].flatten(1).T))  # N, W

    def _pool(self, x: Tensor) -> Tensor:
        match self.config.pool_type:
            case "attn":
                fast = self._packed.pool if self._packed and not torch.is_grad_enabled() else None
                return (fast or self.attn_pool)(x).squeeze(1)
            case "tok":
                return x[:, 0]
            case "avg":
                return x.mean(dim=1)
            case _:
                return x


def override(config: PEConfig, overrides: dict[str, Any]) -> PEConfig:
    """`config` with some fields replaced.

    Raises:
        ConfigError: a name that is no field of `PEConfig`.
    """
    unknown = set(overrides) - set(PEConfig.__dataclass_fields__)
    if unknown:
        fields = ", ".join(PEConfig.__dataclass_fields__)
        raise ConfigError(f"PEConfig has no field {', '.join(sorted(unknown))}; its fields are {fields}")
    return replace(config, **overrides)


def check_images(x: Tensor, patch_size: int) -> None:
    """A batch of images, or a `ShapeError` that says what is wrong."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise ShapeError(f"images must be (B, 3, H, W), got {tuple(x.shape)}; a single image needs x[None]")
    if not x.is_floating_point():
        raise ShapeError(
            f"images must be of a floating dtype and normalised, got {x.dtype}; "
            "use transforms.get_image_transform(image_size)"
        )
    if x.shape[-2] < patch_size or x.shape[-1] < patch_size:  # min() would compare the sides, which torch.export minds
        raise ShapeError(f"images of {x.shape[-2]} x {x.shape[-1]} pixels are smaller than one patch ({patch_size})")
