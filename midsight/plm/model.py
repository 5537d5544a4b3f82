"""PerceptionLM: a PE tower whose tokens stand in the prompt of any causal language model of transformers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from midsight import threads
from midsight.errors import InputError, MissingDependencyError, ShapeError
from midsight.pe import VisionTransformer
from midsight.plm.config import PLMConfig
from midsight.plm.decode import Sampling, decode
from midsight.plm.projector import Projector
from midsight.plm.quantized import Quantization, check, quantize_layers
from midsight.plm.tokenizer import TextCodec

ENCODED_AT_ONCE = 8  # tiles or frames in one pass of the tower on a GPU
ROWS_AT_ONCE = 1024  # of one thread on a CPU: a tile of 448 pixels; more take memory and gain no speed


class PLM(nn.Module):
    """Pictures, videos and token ids to logits and to answers.

    Attributes:
        config: sizes, special tokens, limits on tiles and frames.
        tokenizer: of the language model, where it was loaded with one.
        vision_model, vision_projector, language_model: the parts.
    """

    def __init__(self, config: PLMConfig, language_model: nn.Module, tokenizer: TextCodec | None = None) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        if config.vision is not None:
            dim = int(config.text["hidden_size"])
            self.vision_model = VisionTransformer(config.vision)
            self.vision_projector = Projector(config.vision.width, dim, config.projector_pooling_ratio)
        self.language_model = language_model

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        quantize: Quantization | None = None,
    ) -> Self:
        """A PLM in eval mode, ready for inference.

        Args:
            source: a folder of transformers' PerceptionLM, or of the published layout (`params.json` and
                `consolidated*.pth`), or of `save_pretrained`; or a Hugging Face repository id.
            dtype: of the weights; None keeps the stored one.
            device: where to put them.
            revision: branch, tag or commit of a repository.
            quantize: "int8" or "int4" for the linear maps inside the language model's layers, on the CPU and with
                everything else in bfloat16. Such a model answers; it can be neither trained nor saved.

        Raises:
            ConfigError: quantised weights on another device or in another dtype.
            CheckpointError: missing, cut or foreign files, another architecture, weights that do not fit.
            MissingDependencyError: transformers is not installed.
        """
        from midsight.plm import folders

        if quantize is not None:
            check(quantize, dtype, device)
        model = folders.open_folder(
            cls, folders.resolve(source, revision), torch.bfloat16 if quantize is not None else dtype
        )
        if quantize is not None:
            quantize_layers(model.language_model, quantize)
        return model.to(device).prepare()

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> Path:
        """Writes a folder in transformers' layout, which transformers, vLLM and `from_pretrained` read.

        A tower with a packaged stem or with patches of another size than 14 pixels, for which transformers has no
        place, is written in midsight's own layout, and so is a language model whose weights are not named as Llama's.

        Raises:
            OutputError: the folder cannot be written.
            ConfigError: the weights are quantised.
        """
        from midsight.plm import folders

        return folders.save_folder(self, folder, dtype)

    def prepare(self) -> Self:
        """Eval mode, and the tower packed for inference in the weights' dtype; its norms compute in float32."""
        self.eval()
        if self.config.vision is None:
            return self
        for module in self.vision_model.modules():
            if isinstance(module, nn.LayerNorm):
                module.float()
        self.vision_model.pack(self.dtype if self.dtype is torch.bfloat16 else torch.float32)
        return self

    def pack(self) -> Self:
        """The language model's bfloat16 weights in oneDNN's layout, for faster answers on a CPU.

        What it gains stands in benchmarks/RESULTS.md. For inference alone: load the model anew to train it. Nothing
        changes in float32 and on other devices. Saving still works. Weights are then memory of this process, not pages
        of the file.
        """
        from midsight.plm.projection import pack_projections

        pack_projections(self.language_model)
        threads.trim()  # what laying out took beside the result
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode, where the whole tower has one dtype again, or evaluation mode."""
        if mode and self.config.vision is not None:
            self.vision_model.to(self.vision_model.conv1.weight.dtype)
        return super().train(mode)

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings that enter the language model."""
        return self.token_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.token_embedding.weight.device

    @property
    def token_embedding(self) -> nn.Embedding:
        """The language model's table."""
        table = self.language_model.get_input_embeddings()  # type: ignore[operator]
        assert isinstance(table, nn.Embedding)
        return table

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor | None = None, pixel_values_videos: Tensor | None = None
    ) -> Tensor:
        """Logits (B, L, vocabulary).

        Args:
            input_ids: int64 (B, L), with the image (video) token once for every visual token.
            pixel_values: (images, tiles, 3, H, W), normalised; features fill the places in order.
            pixel_values_videos: (videos, frames, 3, H, W).

        Raises:
            ShapeError: another number of visual tokens than of places for them.
        """
        embeds = self.embed(input_ids, pixel_values, pixel_values_videos)
        logits: Tensor = self.language_model(inputs_embeds=embeds, use_cache=False).logits
        return logits

    @torch.inference_mode()
    def generate(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        max_new_tokens: int = 256,
        attention_mask: Tensor | None = None,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """New ids (B, n): up to and including an end token; rows that end early are filled up with the end token.

        Args:
            input_ids, pixel_values, pixel_values_videos: as in `forward`.
            max_new_tokens: most ids of an answer.
            attention_mask: int64 or bool (B, L), 0 at padding, which stands on the left.
            sampling: None takes the most likely id each time.
        """
        embeds = self.embed(input_ids, pixel_values, pixel_values_videos)
        steps = list(self.decode(embeds, max_new_tokens, attention_mask, sampling))
        return torch.stack(steps, dim=1)

    def decode(
        self,
        embeds: Tensor,
        max_new_tokens: int,
        attention_mask: Tensor | None = None,
        sampling: Sampling | None = None,
        cache: Any = None,
    ) -> Iterator[Tensor]:
        """Ids (B,) step by step; see `generate`. `cache` holds what came before `embeds`."""
        return decode(
            self.language_model,
            embeds,
            stop=self.config.stop_token_ids,
            max_new_tokens=max_new_tokens,
            attention_mask=attention_mask,
            sampling=sampling or Sampling(),
            cache=cache,
        )

    def embed(
        self, input_ids: Tensor, pixel_values: Tensor | None = None, pixel_values_videos: Tensor | None = None
    ) -> Tensor:
        """What enters the language model, (B, L, D); arguments and errors as `forward`."""
        if input_ids.ndim != 2 or input_ids.shape[1] == 0:
            raise ShapeError(f"input_ids must be (B, L) with L of at least 1, got {tuple(input_ids.shape)}")
        embeds: Tensor = self.token_embedding(input_ids)
        media = (
            (pixel_values, self.config.image_token_id, "image"),
            (pixel_values_videos, self.config.video_token_id, "video"),
        )
        for pixels, token, kind in media:
            places = input_ids == token if token is not None else torch.zeros_like(input_ids, dtype=torch.bool)
            features = None if pixels is None else self.encode_media(pixels)
            found = 0 if features is None else len(features)
            if found != int(places.sum()):
                raise ShapeError(
                    f"input_ids have {int(places.sum())} {kind} tokens, but the {kind}s given have {found} "
                    f"for their tiles or frames"
                )
            if features is not None:
                embeds = embeds.masked_scatter(places[..., None], features.to(embeds.dtype))
        return embeds

    def encode_media(self, pixels: Tensor) -> Tensor:
        """Tiles or frames (media, n, 3, H, W) or (n, 3, H, W) to visual tokens in order, (all tokens, D)."""
        if self.config.vision is None:
            raise InputError("this is a language model alone: it reads text, not pictures or videos")
        if pixels.ndim not in (4, 5):
            raise ShapeError(f"pixels must be (media, tiles, 3, H, W) or (tiles, 3, H, W), got {tuple(pixels.shape)}")
        tiles = pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
        into = next(self.vision_model.parameters())
        out_of = next(self.vision_projector.parameters())
        at_once = (
            tiles_at_once(self.config.vision.grid, torch.get_num_threads())
            if into.device.type == "cpu"
            else ENCODED_AT_ONCE
        )
        parts = []
        for some in tiles.split(at_once):
            tokens = self.vision_model.forward_features(some.to(into), norm=True, strip_cls_token=True)
            parts.append(self.vision_projector(tokens.to(out_of)).flatten(0, 1))  # tiles x tokens, D
        if into.device.type == "cpu" and not torch.is_grad_enabled():
            threads.trim()  # the language model's pages come next
        return torch.cat(parts)


def tiles_at_once(grid: int, threads: int) -> int:
    """Tiles or frames of `grid` x `grid` patches in one pass of the tower on a CPU."""
    return max(1, ROWS_AT_ONCE * threads // grid**2)


def build_language_model(text: Mapping[str, Any]) -> nn.Module:
    """A causal language model of transformers with random weights.

    Raises:
        MissingDependencyError: transformers is not installed.
    """
    transformers = import_transformers()
    model: nn.Module = transformers.AutoModelForCausalLM.from_config(language_config(text))
    return model


def language_config(text: Mapping[str, Any]) -> Any:
    """transformers' configuration object, from a dictionary with `model_type`; older spellings are understood."""
    transformers = import_transformers()
    values = dict(text)
    return transformers.AutoConfig.for_model(values.pop("model_type"), **values)


def import_transformers() -> Any:
    """transformers, or an error that names the extra."""
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("language models need transformers: pip install 'midsight[plm]'") from error
    return transformers
