"""A loaded model as a few verbs: embed, classify, compare, look inside."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from midsight import threads as thread_policy
from midsight.api.media import Kind, Outcome, Reader, collect, pool_frames, workers_for
from midsight.api.memory import within_memory
from midsight.configs import PEConfig, PreprocessConfig
from midsight.errors import InputError, LayerError, ShapeError
from midsight.images import load_image
from midsight.pe import CLIP, TextTransformer, VisionTransformer
from midsight.pe.gpu import without_padding
from midsight.tasks.similarity import cosine
from midsight.tasks.zero_shot import Prediction, build_classifier, check_labels, rank, resolve_templates
from midsight.transforms import TextTokenizer, get_text_tokenizer
from midsight.transforms.image import from_config
from midsight.transforms.tiling import tile_pixels, warn_if_unfit, warn_if_untiled

Array = npt.NDArray[np.float32]

TEXTS_KEPT = 16_384  # embeddings of texts that are remembered: 64 MB at 1024 dimensions
PROMPTS_AT_ONCE = 256
BATCH_SIZE = {"cpu": 8}  # a CPU gains nothing from more
BATCH_SIZE_ELSEWHERE = 64


class Perception:
    """A Perception Encoder ready for use; `midsight.load` makes one.

    Embeddings are numpy float32 of length 1. With a text tower, pictures, videos and texts share one space. A model
    without one (PE-Lang, PE-Spatial), or one that was loaded with `layer=`, embeds pictures and videos only: the mean
    of the patch tokens after the last block that is kept, normalised.

    A video's embedding is the normalised mean of its frames' features (the published zero-shot protocol).

    Attributes:
        name: the published name, or the name of the file or folder that was loaded.
        model: the module, a `pe.CLIP` or a `pe.VisionTransformer`.
        preprocess: what happens to pixels before the encoder.
        layer: the block that embeddings come from, 0-based; None for the whole model.
        texts_kept: how many embeddings of texts are remembered.
    """

    def __init__(
        self,
        model: CLIP | VisionTransformer,
        preprocess: PreprocessConfig,
        *,
        name: str,
        layer: int | None = None,
        threads: int | None = None,
        pack: torch.dtype | None = None,
        graphs: bool = False,
        identity: Callable[[], str],
    ) -> None:
        """`load` says what goes in here; `pack` is the dtype that each tower is packed for on its first use."""
        self.name, self.model, self.preprocess, self.layer = name, model, preprocess, layer
        self._identity, self._threads, self._pack, self._graphs = identity, threads, pack, graphs
        self._transform = from_config(preprocess)
        if name.startswith("PE-Lang-"):  # pages are what these are for, and small print does not survive a squash
            self._transform = replace(self._transform, on_size=partial(warn_if_untiled, name))
        self.texts_kept = TEXTS_KEPT
        self._texts: OrderedDict[tuple[str, tuple[str, ...]], Array] = OrderedDict()
        self._lock = threading.Lock()  # of the remembered texts

    def __repr__(self) -> str:
        at = "" if self.layer is None else f", layer {self.layer}"
        return f"<Perception {self.name}{at}, {self.dim} dimensions, on {self.device}>"

    @property
    def tower(self) -> VisionTransformer:
        """The vision tower."""
        return self.model.visual if isinstance(self.model, CLIP) else self.model

    @property
    def config(self) -> PEConfig:
        """The vision tower's configuration."""
        return self.tower.config

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.tower.conv1.weight.device

    @property
    def dtype(self) -> str:
        """What it computes in: "fp32", or "bf16" with a residual stream in float32."""
        return "bf16" if self._pack == torch.bfloat16 else "fp32"

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.config.output_dim if self._projects and self.config.output_dim else self.config.width

    @property
    def has_text(self) -> bool:
        """Whether texts can be embedded in the space of the pictures."""
        return isinstance(self.model, CLIP) and self.layer is None

    @property
    def context_length(self) -> int | None:
        """Tokens of a text, the two marks included; None for a model without texts."""
        return self._pair().context_length if self.has_text else None

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied with before the softmax over labels."""
        return float(self._pair().logit_scale.detach().float().exp())

    @cached_property
    def identity(self) -> str:
        """A hash of weights, preprocessing and layer: embeddings of equal identity may be compared."""
        return self._identity()

    @cached_property
    def _ready_tower(self) -> VisionTransformer:
        """The vision tower, packed on first use: who only asks about texts does not pay for it, and the reverse."""
        return self.tower if self._pack is None else self.tower.pack(self._pack, self._graphs)

    @cached_property
    def _ready_text(self) -> CLIP:
        pair = self._pair()
        if self._pack is not None:
            TextTransformer.pack(pair, self._pack, self._graphs)  # the text tower alone
        return pair

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        return get_text_tokenizer(self._pair().context_length)

    @property
    def _projects(self) -> bool:
        return self.layer is None and self.config.pool_type != "none"

    # Embeddings

    def embed_images(self, sources: Any, *, batch_size: int | None = None) -> Array:
        """Embeddings of pictures.

        Args:
            sources: one picture or an iterable of any length: paths, bytes, PIL images, arrays (H, W, 3), tensors
                (3, H, W); see `midsight.images.load_image`.
            batch_size: pictures encoded together.

        Returns:
            float32 (N, D), of length 1.

        Raises:
            MediaError: the first picture that cannot be read; `iter_embed` goes on behind it instead.
        """
        outcomes = self.iter_embed(sources, kind="image", batch_size=batch_size)
        return collect(outcomes, self.dim)

    def embed_videos(self, sources: Any, *, num_frames: int = 8, batch_size: int | None = None) -> Array:
        """Embeddings of videos.

        Args:
            sources: one video or an iterable: paths, arrays (T, H, W, 3), tensors (T, 3, H, W).
            num_frames: frames taken from each file, evenly; arrays and tensors are used whole.
            batch_size: frames encoded together.

        Returns:
            float32 (N, D), of length 1.

        Raises:
            MediaError: the first video that cannot be read.
        """
        outcomes = self.iter_embed(sources, kind="video", num_frames=num_frames, batch_size=batch_size)
        return collect(outcomes, self.dim)

    def embed_texts(self, texts: str | Iterable[str], templates: str | Sequence[str] | None = None) -> Array:
        """Embeddings of texts; those seen lately are remembered.

        Args:
            texts: one text or an iterable. Beyond the context length a text is cut, with a warning.
            templates: prompt templates by name ("imagenet1k", "kinetics", "photo", "plain") or as a list with "{c}";
                the embeddings of all prompts are averaged. None embeds the text as it is.

        Returns:
            float32 (N, D), of length 1.

        Raises:
            InputError: not texts, unknown templates, or a model without texts.
        """
        names = [texts] if isinstance(texts, str) else list(texts)
        for name in names:
            if not isinstance(name, str):
                raise InputError(f"texts must be strings, got {type(name).__name__}: {name!r:.80}")
        self._pair()
        prompts = tuple(resolve_templates(templates))
        with self._lock:
            rows = {name: self._texts[name, prompts] for name in names if (name, prompts) in self._texts}
        missing = [name for name in dict.fromkeys(names) if name not in rows]
        if missing:
            columns = build_classifier(self._encode_texts, missing, prompts)
            rows |= {name: column.numpy().copy() for name, column in zip(missing, columns.T, strict=True)}
        self._remember(rows, prompts)
        return np.stack([rows[name] for name in names]) if names else np.empty((0, self.dim), np.float32)

    def iter_embed(
        self,
        sources: Any,
        *,
        kind: Kind = "auto",
        num_frames: int = 8,
        segment_seconds: float | None = None,
        skip_segments: int = 0,
        batch_size: int | None = None,
    ) -> Iterator[Outcome[Array]]:
        """Embeddings of pictures and videos one by one, in order, in bounded memory; a bad input stops no other.

        Files are decoded in the background while the encoder works.

        Args:
            sources: an iterable of any length, generators too.
            kind: "auto" tells videos by file ending, by four dimensions, or by being a `midsight.video.Clip`.
            num_frames: frames taken from each video or segment.
            segment_seconds: one outcome for each stretch of so many seconds of a video, instead of one for all of it.
            skip_segments: segments of the first input to leave out, for work that is taken up again.
            batch_size: pictures and frames encoded together.

        Yields:
            An outcome with an embedding float32 (D,) or an error for each input; for segments, several.

        Raises:
            InputError: an argument that cannot be.
        """
        reader = self._reader(kind, num_frames, segment_seconds, skip_segments)
        return self._embedded(reader, sources, self._batch_size(batch_size))

    def embed_frames(self, clips: Sequence[Tensor], *, batch_size: int | None = None) -> list[Array | None]:
        """Embeddings of pixels that are already as `preprocess` says, for those who read files in their own way.

        Args:
            clips: each picture or clip uint8 (T, 3, S, S), not normalised.
            batch_size: pictures and frames encoded together.

        Returns:
            For each clip float32 (D,) of length 1, or None where the encoder gives no finite direction.
        """
        size = self._batch_size(batch_size)
        features = [self._encode(images) for images in self._images(torch.cat(list(clips)) if clips else None, size)]
        return pool_frames(torch.cat(features), [len(clip) for clip in clips]) if features else []

    # Questions

    def classify(
        self,
        media: Any,
        labels: Sequence[str],
        templates: str | Sequence[str] | None = None,
        *,
        top_k: int | None = None,
        num_frames: int = 8,
        batch_size: int | None = None,
    ) -> list[list[Prediction]]:
        """Zero-shot classification of pictures and videos.

        Args:
            media: one picture or video, or an iterable of them.
            labels: the names to choose from, each once.
            templates: as in `embed_texts`.
            top_k: how many labels to return; None returns all.

        Returns:
            For each input its labels, best first, with the probability among all of them.

        Raises:
            InputError: empty or repeated labels, or a model without texts.
            MediaError: the first input that cannot be read; `iter_classify` goes on behind it instead.
        """
        outcomes = self.iter_classify(
            media, labels, templates, top_k=top_k, num_frames=num_frames, batch_size=batch_size
        )
        return [outcome.unwrap() for outcome in outcomes]

    def iter_classify(
        self,
        media: Any,
        labels: Sequence[str],
        templates: str | Sequence[str] | None = None,
        *,
        top_k: int | None = None,
        num_frames: int = 8,
        batch_size: int | None = None,
    ) -> Iterator[Outcome[list[Prediction]]]:
        """As `classify`, one outcome for each input in order; labels are checked before anything is read."""
        names = check_labels(labels)
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        classifier = torch.from_numpy(self.embed_texts(names, templates))
        scale = self.logit_scale
        outcomes = self.iter_embed(media, num_frames=num_frames, batch_size=batch_size)

        def ranked(embedding: Array) -> list[Prediction]:
            return rank(scale * (classifier @ torch.from_numpy(embedding)), names, top_k)

        return (outcome.map(ranked) for outcome in outcomes)

    def similarity(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
        """Cosine similarity of every row of `a` with every row of `b`.

        Args:
            a: embeddings (N, D), or one of them (D,).
            b: embeddings (M, D), or one of them (D,).

        Returns:
            float32 (N, M).

        Raises:
            ShapeError: not embeddings of this model's width.
        """
        rows = [torch.from_numpy(np.atleast_2d(np.asarray(x, np.float32))) for x in (a, b)]
        for matrix in rows:
            if matrix.ndim != 2 or matrix.shape[1] != self.dim:
                raise ShapeError(f"expected embeddings (N, {self.dim}), got {tuple(matrix.shape)}")
        found: Array = cosine(rows[0], rows[1]).numpy()
        return found

    def features(
        self,
        media: Any,
        layers: Sequence[int],
        *,
        as_maps: bool = True,
        num_frames: int = 8,
        batch_size: int | None = None,
    ) -> list[Array]:
        """What the encoder holds after some of its blocks, not normalised; blocks past the last one are not computed.

        Args:
            media: one picture or video, or an iterable; every frame of a video counts as a picture.
            layers: block indices, 0-based, negative from the end.
            as_maps: feature maps (N, C, h, w) without the class token, else tokens (N, tokens, C).

        Returns:
            One float32 array for each layer, in the order asked for.

        Raises:
            LayerError: an index outside the tower, or no index.
            MediaError: the first input that cannot be read.
        """
        if not layers:
            raise LayerError(f"name at least one layer, 0 to {self.tower.layers - 1} or negative from the end")
        size = self._batch_size(batch_size)
        found: list[list[Array]] = [[] for _ in layers]
        for batch in self._reader("auto", num_frames).batches(media, size):
            batch.raise_first_error()
            for images in self._images(batch.pixels, size):
                for kept, part in zip(found, self._intermediates(images, layers, as_maps), strict=True):
                    kept.append(part.float().cpu().numpy())
        if not found[0]:
            raise InputError("there is nothing to look at: name at least one picture or video")
        return [np.concatenate(parts) for parts in found]

    def tile_features(
        self,
        picture: Any,
        layers: Sequence[int],
        *,
        max_tiles: int = 16,
        as_maps: bool = True,
        batch_size: int | None = None,
    ) -> list[Array]:
        """`features` of one picture cut into tiles, the squashed whole first; for the `-Tiling` encoders.

        Args:
            picture: anything that `midsight.images.load_image` takes.
            max_tiles: most tiles, without the thumbnail; the grid is `transforms.tiling.choose_grid`'s.
            layers, as_maps: as in `features`.

        Returns:
            One float32 array for each layer, (1 + tiles, ...), tiles row by row.

        Warns:
            UserWarning: once, where the encoder was not trained on tiles.
        """
        if not layers:
            raise LayerError(f"name at least one layer, 0 to {self.tower.layers - 1} or negative from the end")
        pixels = load_image(picture, limits=self._transform.limits)
        tiles = tile_pixels(pixels, max_tiles, self.preprocess.image_size)
        warn_if_unfit(self.name, (pixels.shape[1], pixels.shape[0]), tiled=len(tiles) > 2)
        found: list[list[Array]] = [[] for _ in layers]
        for some in tiles.split(self._batch_size(batch_size)):
            self._settle()
            for kept, part in zip(found, self._intermediates(some.to(self.device), layers, as_maps), strict=True):
                kept.append(part.float().cpu().numpy())
        return [np.concatenate(parts) for parts in found]

    # Inside

    def _pair(self) -> CLIP:
        """The model, if texts can be embedded in the space of the pictures."""
        if self.layer is not None:
            raise InputError(
                f"{self.name} was loaded with layer={self.layer}, and features of a middle layer are not in the space "
                "of the texts. Load it without layer."
            )
        if not isinstance(self.model, CLIP):
            raise InputError(f"{self.name} has no text tower: load a PE-Core model to work with texts and labels")
        return self.model

    def _reader(self, kind: Kind, num_frames: int, segment_seconds: float | None = None, skip: int = 0) -> Reader:
        return Reader(self._transform, kind, num_frames, segment_seconds, skip, workers_for(self.device))

    def _batch_size(self, batch_size: int | None) -> int:
        return BATCH_SIZE.get(self.device.type, BATCH_SIZE_ELSEWHERE) if batch_size is None else batch_size

    def _embedded(self, reader: Reader, sources: Any, batch_size: int) -> Iterator[Outcome[Array]]:
        for batch in reader.batches(sources, batch_size):
            frames = [entry.frames for entry in batch.entries if entry.frames is not None]
            found, batch_size = within_memory(partial(self.embed_frames, frames), batch_size)
            yield from batch.outcomes(found)

    def _images(self, pixels: Tensor | None, batch_size: int) -> Iterator[Tensor]:
        """Pixels uint8 (F, 3, S, S) to normalised float32 (B, 3, S, S) on the device, a batch at a time."""
        for part in () if pixels is None else torch.split(pixels, batch_size):
            self._settle()
            yield self._transform.normalize(part.to(self.device, non_blocking=True))

    def _settle(self) -> None:
        if self.device.type == "cpu":
            thread_policy.settle(self._threads)

    @torch.inference_mode()
    def _encode(self, images: Tensor) -> Tensor:
        """Images float32 (B, 3, S, S) to features float32 (B, D) on the CPU, not normalised."""
        if self._projects:
            return self._ready_tower(images).float().cpu()
        return self._ready_tower.forward_features(images, strip_cls_token=True).float().mean(dim=1).cpu()

    @torch.inference_mode()
    def _intermediates(self, images: Tensor, layers: Sequence[int], as_maps: bool) -> list[Tensor]:
        return self._ready_tower.forward_intermediates(images, layers, as_maps=as_maps)

    @torch.inference_mode()
    def _encode_texts(self, texts: list[str]) -> Tensor:
        """Texts to features float32 (n, D) on the CPU, not normalised."""
        pair = self._ready_text
        self._settle()
        parts = torch.split(self._tokenizer(texts), PROMPTS_AT_ONCE)
        encoded = [pair.encode_text(without_padding(part).to(self.device)) for part in parts]
        return torch.cat(encoded).float().cpu()

    def _remember(self, rows: dict[str, Array], prompts: tuple[str, ...]) -> None:
        with self._lock:
            for name, row in rows.items():
                self._texts[name, prompts] = row
                self._texts.move_to_end((name, prompts))
            while len(self._texts) > self.texts_kept:
                self._texts.popitem(last=False)
