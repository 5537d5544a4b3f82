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

# names of surroundings, of which a picture is full and which have no shape of their own: ADE20K's and COCO's, gathered
STUFF = frozenset(
    (
        "background", "beach", "brick", "carpet", "ceiling", "cliff", "cloud", "clouds", "concrete", "desert", "dirt",
        "earth", "field", "floor", "fog", "forest", "grass", "gravel", "ground", "hill", "hills", "lake", "landscape",
        "lawn", "meadow", "mountain", "mountains", "mud", "path", "pavement", "pier", "river", "road", "rock", "rocks",
        "sand", "sea", "sidewalk", "sky", "snow", "soil", "street", "surroundings", "tiles", "wall", "walls", "water",
    )
)  # fmt: skip


@dataclass(frozen=True)
class OpenConfig:
    """How pictures are looked at. The defaults are for the embedded models, chosen on rendered scenes.

    Pictures are looked at in several sizes, since a token of 32 pixels sees large things in a small picture and small
    things in a large one, and the cosines are averaged. Weights by the other encoder want a mild temperature: below it
    different things flow together, above it nothing does.
    """

    scales: tuple[float, ...] = (2.0, 3.0)  # shorter sides, in sizes that the model was trained with
    windows: WindowConfig = WindowConfig(42, 28)  # tokens; photographs are mostly one window, long pictures are not
    attention: Attention = "own"  # of the last block, see `last_tokens`; the embedded blocks change nothing yet
    temperature: float = 8.0  # of the likeness of the other encoder's tokens
    templates: str = "photo"
    surroundings: tuple[str, ...] = ("floor", "wall", "ceiling", "sky", "grass", "ground")  # words of the background

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


def stuff_of(labels: Sequence[str]) -> list[str]:
    """Those labels whose last word is in `STUFF`: "sky", "blue sky"."""
    return [label for label in labels if label.lower().split()[-1] in STUFF]


class OpenSegmenter:
    """An encoder with texts, and names.

    With a head that tells things from surroundings, a place of surroundings goes to the best of `stuff` and of the
    background, any other place to the best of the other labels. Without it, all compete everywhere.

    Attributes:
        names: what the numbers of a class map mean; the first is "background" where that was asked for.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        labels: Sequence[str],
        texts: Tensor,
        *,
        background: bool = False,
        words: Tensor | None = None,
        stuff: Sequence[str] = (),
        head: nn.Module | None = None,
        spatial: DenseEncoder | None = None,
        scale: float = 100.0,
        config: OpenConfig | None = None,
    ) -> None:
        """
        Args:
            encoder: of a PE-Core, read after its last layer.
            labels: names, each once.
            texts: float (labels, D), their embeddings.
            background: whether a pixel may be none of the labels.
            words: float (n, D), embeddings of what the background may be; the nearest counts.
            stuff: those of the labels that are surroundings.
            head: from the map of `spatial` to two outputs, surroundings and things.
            spatial: an encoder of better locality, whose tokens say which of `encoder`'s belong together.
            scale: of the cosines, before the softmax of `scores`.

        Raises:
            InputError: labels that cannot be; one label without a background; a background without words or head.
            ShapeError: texts of another number or width.
            ConfigError: an encoder without a pooling into the space of texts; a head without `spatial`.
        """
        labels = check_labels(labels)
        _check(encoder, labels, background and (words is not None or head is not None), background, head, spatial)
        for rows, count in ((texts, len(labels)), (words, None)):
            _check_texts(rows, count, encoder.tower.proj.shape[1])
        self.names = (BACKGROUND, *labels) if background else tuple(labels)
        self.encoder, self.spatial, self.scale = encoder, spatial, scale
        self.config = config or usual_config(encoder)
        kept = words if background and words is not None else texts[:0]
        self._texts = F.normalize(torch.cat([texts, kept]).float(), dim=-1).to(encoder.device)
        around = [name in stuff or (background and name == BACKGROUND) for name in self.names]
        self._around = torch.tensor(around, device=encoder.device)  # names
        self._background, self._words = background, len(kept)
        parted = any(around) and (background or not all(around))  # else there is nothing for the head to part
        self._head = head.to(spatial.device).eval() if head is not None and spatial is not None and parted else None

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
        cosines, thing = self.maps(image, describe(source))
        size = image.shape[0], image.shape[1]
        if thing is None:
            return _numpy(_largest(cosines, size))
        there = enlarge(thing, size)[0, 0] > 0
        things, around = (self._best_of(cosines, group, size) for group in (~self._around, self._around))
        return _numpy(torch.where(there, things, around))

    def scores(self, source: Any) -> npt.NDArray[np.float32]:
        """How sure each class is at each pixel.

        With a head, things share its probability of a thing and surroundings the rest.

        Args:
            source: as in a call.

        Returns:
            float32 (len(names), H, W), of the picture's own size; over the classes they sum to 1.

        Raises:
            MediaError: as in a call, or a picture whose scores would take more than 2 GB.
        """
        image, name = load_image(source), describe(source)
        size = image.shape[0], image.shape[1]
        if len(self.names) * size[0] * size[1] > MAX_SCORES:
            raise MediaError(
                f"{name}: scores of {len(self.names)} classes at {size[1]}x{size[0]} are more than {MAX_SCORES} "
                "numbers. Make the picture smaller, or give fewer labels."
            )
        cosines, thing = self.maps(image, name)
        large = self.scale * enlarge(cosines, size)[0]  # names, H, W
        if thing is None:
            return large.softmax(dim=0).cpu().numpy()
        there, shares = enlarge(thing, size)[0].sigmoid(), torch.zeros_like(large)
        for group, part in ((~self._around, there), (self._around, 1 - there)):
            if group.any():
                shares[group] += part * large[group].softmax(dim=0)
            else:
                shares[0] += part[0]  # only the background is left
        return shares.cpu().numpy()

    def _best_of(self, cosines: Tensor, group: Tensor, size: tuple[int, int]) -> Tensor:
        """The best name (H, W) within a group, the background where it is empty."""
        places = group.nonzero()[:, 0]
        if not len(places):
            return places.new_zeros(size)
        return places[_largest(cosines[:, places], size)]

    @torch.no_grad()
    def maps(self, image: Pixels, name: str = "a picture") -> tuple[Tensor, Tensor | None]:
        """What class maps are made of: means over the scales, on the finest one's tokens.

        Returns:
            Cosines (1, names, h, w), and the logit of a thing (1, 1, h, w) where a head says it.

        Raises:
            MediaError: the picture, called `name`, would become too large.
        """
        found = [self._at(image, scale, name) for scale in self.config.scales]
        size = max((maps.shape[-2], maps.shape[-1]) for maps in found)
        mean = torch.stack([enlarge(maps, size) for maps in found]).mean(dim=0)
        thing = None
        if self._head is not None:
            mean, thing = mean[:, :-2], mean[:, -1:] - mean[:, -2:-1]
        labels = len(self.names) - int(self._background)
        cosines, words = mean[:, :labels], mean[:, labels:]
        if self._background:  # without words it is where no label of its group is, and below any cosine else
            behind = words.amax(dim=1, keepdim=True) if self._words else torch.full_like(mean[:, :1], -2)
            cosines = torch.cat([behind, cosines], dim=1)
        return cosines, thing

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

    def embed(self, tokens: Tensor, weights: Tensor | None) -> Tensor:
        """Tokens (1, N, W) to the space of texts, (1, N, D)."""
        return pool_each(self.encoder.tower, tokens, weights)

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
            known = [] if self._head is None else [self._head(maps).to(tokens)]
        embeddings = F.normalize(self.embed(tokens, weights), dim=-1)  # 1, N, D
        cosines = (embeddings @ self._texts.T).transpose(1, 2).unflatten(2, grid)
        return torch.cat([cosines, *known], dim=1)


def _largest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Which of maps (1, K, h, w) is the largest at each pixel of `size`, int64 (H, W); a few at a time."""
    best = maps.new_full(size, -torch.inf)
    found = torch.zeros(size, dtype=torch.long, device=maps.device)
    for first in range(0, maps.shape[1], _AT_ONCE):
        value, index = enlarge(maps[:, first : first + _AT_ONCE], size)[0].max(dim=0)
        found = torch.where(value > best, index + first, found)
        best = torch.maximum(value, best)
    return found


def _check(
    encoder: DenseEncoder, labels: list[str], known: bool, background: bool, head: object, spatial: object
) -> None:
    if encoder.tower.config.pool_type != "attn" or encoder.tower.output_dim is None:
        raise ConfigError(f"{encoder.name or 'the encoder'} has no pooling into a space of texts; take a PE-Core")
    if head is not None and spatial is None:
        raise ConfigError("a head for the surroundings reads the spatial encoder's tokens, but there is none")
    if background and not known:
        raise InputError("there is nothing to know the background by; give words for it")
    if background and BACKGROUND in labels:
        raise InputError(f"{BACKGROUND!r} is a label already; leave it out, or do not ask for the background")
    if len(labels) == 1 and not background:
        raise InputError(
            f"one label alone, {labels[0]!r}, would fill the picture. Give at least two labels, or ask for the "
            "background as well (background=True, --background)."
        )


def _check_texts(rows: Tensor | None, count: int | None, width: int) -> None:
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != width or count not in (None, len(rows))):
        wanted = f"({'n' if count is None else count}, {width})"
        raise ShapeError(f"expected embeddings of texts {wanted}, got {tuple(rows.shape)}")


def _pixels(tokens: slice, patch: int) -> slice:
    return slice(tokens.start * patch, tokens.stop * patch)


def _numpy(found: Tensor) -> npt.NDArray[np.uint16]:
    return found.cpu().numpy().astype(np.uint16)
