"""Classes for every pixel from names alone: no head is trained for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import ConfigError, InputError, MediaError, ShapeError
from midsight.images import Pixels, describe, load_image
from midsight.tasks.features import DenseEncoder, fitting
from midsight.tasks.segmentation.text_tokens import ATTENTIONS, Attention, last_tokens, likeness, pool_each
from midsight.tasks.windows import WindowConfig, enlarge, spans
from midsight.tasks.zero_shot import check_labels
from midsight.transforms.image import shorter_side_to

BACKGROUND = "background"
MAX_TOKENS = 40_000  # of a scaled picture: 6,400 x 6,400 pixels with patches of 32
MAX_SCORES = 500_000_000  # values of `OpenSegmenter.scores`: 2 GB
_AT_ONCE = 8  # names whose scores are brought to the picture's size together


@dataclass(frozen=True)
class OpenConfig:
    """How pictures are looked at. The defaults are for the embedded models, chosen on rendered scenes.

    Pictures are looked at in several sizes, since a token of 32 pixels sees large things in a small picture and small
    things in a large one, and the cosines are averaged. Two sizes were better than any single one; a third, 4.0, gained
    half a point of mIoU and doubled the time. Weights by the other encoder helped most at a mild temperature: below it
    different things flow together, above it nothing does.
    """

    scales: tuple[float, ...] = (2.0, 3.0)  # shorter sides, in sizes that the model was trained with
    windows: WindowConfig = WindowConfig(42, 28)  # tokens; photographs are mostly one window, long pictures are not
    attention: Attention = "own"  # of the last block, see `last_tokens`; the embedded blocks change nothing yet
    temperature: float = 8.0  # of the likeness of the other encoder's tokens
    templates: str = "photo"  # four sets of templates differed by 0.2 mIoU at most
    surroundings: tuple[str, ...] = ("floor", "wall", "ceiling", "sky", "grass", "ground")  # where no head knows them

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"scales must be one or more positive numbers, got {self.scales}")
        if self.attention not in ATTENTIONS:
            raise ConfigError(f"attention must be one of {', '.join(ATTENTIONS)}, got {self.attention!r}")
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")


def usual_config(encoder: DenseEncoder) -> OpenConfig:
    """The defaults for an encoder.

    Towers of plain patches get windows of the grid that they were trained on, at that size and at twice it, and
    attention by self-likeness in the last block, as SCLIP (arXiv 2312.01597) has it for CLIP. Their weights were not at
    hand: none of this was measured on them.
    """
    tower = encoder.tower
    if tower.config.stem != "patch":
        return OpenConfig()
    grid = tower.config.grid
    return OpenConfig(scales=(1.0, 2.0), windows=WindowConfig(grid, max(1, round(grid * 2 / 3))), attention="self")


class OpenSegmenter:
    """An encoder with texts, and names.

    Attributes:
        names: what the numbers of a class map mean; the first is "background" where that was asked for.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        labels: Sequence[str],
        texts: Tensor,
        *,
        scale: float = 100.0,
        surroundings: Tensor | nn.Module | None = None,
        spatial: DenseEncoder | None = None,
        config: OpenConfig | None = None,
    ) -> None:
        """
        Args:
            encoder: of a PE-Core, read after its last layer.
            labels: names, each once.
            texts: float (labels, D), their embeddings.
            scale: of the cosines, before the softmax of `scores`.
            surroundings: what the background is: embeddings of words (n, D) of which the nearest counts, or a head over
                the map of `spatial` with two outputs, surroundings and things. None: every pixel gets a label.
            spatial: an encoder of better locality, whose tokens say which of `encoder`'s belong together.

        Raises:
            InputError: labels that cannot be; one label without a background.
            ShapeError: texts of another number or width.
            ConfigError: an encoder without a pooling into the space of texts; a head without `spatial`.
        """
        self.labels = check_labels(labels)
        if len(self.labels) == 1 and surroundings is None:
            raise InputError(
                f"one label alone, {self.labels[0]!r}, would fill the picture. Give at least two labels, or ask for "
                "the background as well (background=True)."
            )
        if encoder.tower.config.pool_type != "attn" or encoder.tower.output_dim is None:
            raise ConfigError(f"{encoder.name or 'the encoder'} has no pooling into a space of texts; take a PE-Core")
        if isinstance(surroundings, nn.Module) and spatial is None:
            raise ConfigError("a head for the surroundings reads the spatial encoder's tokens, but there is none")
        words = surroundings if isinstance(surroundings, Tensor) else None
        for rows, count in ((texts, len(self.labels)), (words, None)):
            _check_texts(rows, count, encoder.tower.output_dim)
        self.encoder, self.spatial, self.scale = encoder, spatial, scale
        self.config = config or usual_config(encoder)
        self._texts = F.normalize((texts if words is None else torch.cat([texts, words])).float(), dim=-1)
        self._texts = self._texts.to(encoder.device)
        self._words = words is not None
        self._head = surroundings.to(encoder.device).eval() if isinstance(surroundings, nn.Module) else None

    @property
    def names(self) -> tuple[str, ...]:
        return (BACKGROUND, *self.labels) if self._has_background else tuple(self.labels)

    @property
    def _has_background(self) -> bool:
        return self._words or self._head is not None

    def __call__(self, source: Any) -> npt.NDArray[np.uint16]:
        """The class of each pixel.

        Args:
            source: a picture of any kind that `midsight.images.load_image` takes.

        Returns:
            uint16 (H, W), of the picture's own size: places in `names`.

        Raises:
            MediaError: the picture cannot be read, or is so narrow that it would become too large.
        """
        image = load_image(source)
        cosines, thing = self._maps(image, describe(source))
        size = image.shape[0], image.shape[1]
        found, best = _largest(cosines[:, : len(self.labels)], size)
        if not self._has_background:
            return _numpy(found)
        if thing is None:
            _, rival = _largest(cosines[:, len(self.labels) :], size)
            behind = rival > best
        else:
            behind = enlarge(thing, size)[0, 0] < 0
        return _numpy(torch.where(behind, 0, found + 1))

    def scores(self, source: Any) -> npt.NDArray[np.float32]:
        """How sure each class is at each pixel.

        A head's background is above 0.5 where the class map has it; the labels share the rest.

        Args:
            source: as in a call.

        Returns:
            float32 (len(names), H, W), of the picture's own size; over the classes they sum to 1.

        Raises:
            MediaError: as in a call, or a picture whose scores would take more than 2 GB.
        """
        image, name = load_image(source), describe(source)
        if (len(self.names) + 1) * image.shape[0] * image.shape[1] > MAX_SCORES:
            raise MediaError(
                f"{name}: scores of {len(self.names)} classes at {image.shape[1]}x{image.shape[0]} are more than "
                f"{MAX_SCORES} numbers. Make the picture smaller, or give fewer labels."
            )
        cosines, thing = self._maps(image, name)
        count, size = len(self.labels), (image.shape[0], image.shape[1])
        large = enlarge(cosines, size)
        if self._words:
            large = torch.cat([large[:, count:].amax(dim=1, keepdim=True), large[:, :count]], dim=1)
        shares = (self.scale * large).softmax(dim=1)
        if thing is not None:
            there = enlarge(thing, size).sigmoid()
            shares = torch.cat([1 - there, there * shares], dim=1)
        return shares[0].cpu().numpy()

    @torch.no_grad()
    def _maps(self, image: Pixels, name: str) -> tuple[Tensor, Tensor | None]:
        """Cosines (1, texts, h, w), and the logit of a thing (1, 1, h, w) where a head says it; means over scales."""
        found = [self._at(image, scale, name) for scale in self.config.scales]
        size = max((maps.shape[-2], maps.shape[-1]) for maps in found)
        mean = torch.stack([enlarge(maps, size) for maps in found]).mean(dim=0)
        if self._head is None:
            return mean, None
        return mean[:, :-2], mean[:, -1:] - mean[:, -2:-1]

    def _at(self, image: Pixels, scale: float, name: str) -> Tensor:
        """All scores (1, texts and the head's, rows, columns) of a picture in one size, a mean over windows."""
        patch = self.encoder.patch_size
        short = round(scale * self.encoder.tower.config.image_size)
        height, width = shorter_side_to(image.shape[0], image.shape[1], short)
        rows, columns = fitting(height, patch) // patch, fitting(width, patch) // patch
        if rows * columns > MAX_TOKENS:
            raise MediaError(
                f"{name}: {image.shape[1]}x{image.shape[0]} would become {width}x{height} with its shorter side at "
                f"{short}; the limit is {MAX_TOKENS} tokens of {patch}x{patch} pixels. Cut it, or lower the scales."
            )
        pixels = self.encoder.pixels(image, rows * patch, columns * patch)[None]
        total, counts = torch.zeros(()), torch.zeros(rows, columns, device=self.encoder.device)
        for y in spans(rows, self.config.windows):
            for x in spans(columns, self.config.windows):
                found = self._window(pixels[..., _pixels(y, patch), _pixels(x, patch)])
                if not total.ndim:
                    total = found.new_zeros(*found.shape[:2], rows, columns)
                total[..., y, x] += found
                counts[y, x] += 1
        return total / counts

    def _window(self, pixels: Tensor) -> Tensor:
        """uint8 (1, 3, H, W) of whole patches to scores (1, texts and the head's, h, w)."""
        grid = pixels.shape[-2] // self.encoder.patch_size, pixels.shape[-1] // self.encoder.patch_size
        self.encoder._before()
        images = self.encoder.normalize(pixels.to(self.encoder.device))
        tokens = last_tokens(self.encoder.tower, images, self.config.attention).float()  # 1, N, W
        weights, known = None, []
        if self.spatial is not None:
            side = self.spatial.patch_size
            resized = F.interpolate(pixels.float(), (grid[0] * side, grid[1] * side), mode="bilinear", antialias=True)
            maps = self.spatial(self.spatial.normalize(resized.round().to(torch.uint8)))
            weights = likeness(maps[-1].flatten(2).transpose(1, 2).to(tokens), self.config.temperature)
            known = [] if self._head is None else [self._head(maps)]
        embeddings = F.normalize(pool_each(self.encoder.tower, tokens, weights), dim=-1)  # 1, N, D
        cosines = (embeddings @ self._texts.T).transpose(1, 2).unflatten(2, grid)
        return torch.cat([cosines, *known], dim=1)


def _largest(maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of maps (1, K, h, w): which is the largest at each pixel of `size`, and its value; a few at a time."""
    best = maps.new_full(size, -torch.inf)
    found = torch.zeros(size, dtype=torch.long, device=maps.device)
    for first in range(0, maps.shape[1], _AT_ONCE):
        value, index = enlarge(maps[:, first : first + _AT_ONCE], size)[0].max(dim=0)
        found = torch.where(value > best, index + first, found)
        best = torch.maximum(value, best)
    return found, best


def _check_texts(rows: Tensor | None, count: int | None, width: int) -> None:
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != width or count not in (None, len(rows))):
        wanted = f"({'n' if count is None else count}, {width})"
        raise ShapeError(f"expected embeddings of texts {wanted}, got {tuple(rows.shape)}")


def _pixels(tokens: slice, patch: int) -> slice:
    return slice(tokens.start * patch, tokens.stop * patch)


def _numpy(found: Tensor) -> npt.NDArray[np.uint16]:
    return found.cpu().numpy().astype(np.uint16)
