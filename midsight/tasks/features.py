"""The frozen encoder under a dense task: pictures of any shape in, feature maps of chosen blocks out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property

import torch
from torch import Tensor

from midsight import checkpoints
from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError
from midsight.images import Pixels
from midsight.pe import VisionTransformer
from midsight.transforms.image import ImageTransform, resize_pixels

Encode = Callable[[Tensor], list[Tensor]]  # images float (B, 3, H, W) to maps (B, C, h, w)


class DenseEncoder:
    """A vision tower and the blocks of it that are read.

    Attributes:
        layers: the blocks, 0-based.
        norm: whether the tower's final norm is applied to each map.
    """

    def __init__(
        self,
        tower: VisionTransformer,
        preprocess: PreprocessConfig,
        layers: Sequence[int] = (-1,),
        norm: bool = False,
        name: str = "",
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """
        Args:
            tower: its weights stay as they are.
            preprocess: mean, standard deviation and interpolation; the size is what a task says.
            layers: block indices, 0-based, negative from the end.
            name: of the encoder, for people.
            before: called before each pass, for instance to set the number of threads.

        Raises:
            ConfigError: no layer.
            LayerError: a layer that the tower does not have.
        """
        if not layers:
            raise ConfigError("name at least one layer to read features from")
        self.tower, self.preprocess, self.norm, self.name = tower, preprocess, norm, name
        self.layers = tuple(tower._layer(layer) for layer in layers)
        self._transform, self._before = ImageTransform(preprocess), before

    @property
    def patch_size(self) -> int:
        """Pixels of a token's side."""
        return self.tower.patch_size

    @property
    def width(self) -> int:
        """Channels of a map."""
        return self.tower.width

    @property
    def device(self) -> torch.device:
        """Where the tower computes."""
        return self.tower.conv1.weight.device

    @cached_property
    def identity(self) -> str:
        """Names what is computed: the weights up to the last layer that is read, and how pixels become numbers.

        Neither the size of the input nor blocks that are not read count.
        """
        last = max(self.layers)
        weights = {key: value for key, value in self.tower.state_dict().items() if _counts(key, last, self.norm)}
        size = replace(self.preprocess, image_size=self.tower.config.image_size, resize="squash")
        return checkpoints.identity(weights, size)

    def describe(self) -> dict[str, object]:
        """What a head that is trained on these features must say of them, as JSON."""
        return {
            "name": self.name,
            "identity": self.identity,
            "layers": list(self.layers),
            "norm": self.norm,
            "width": self.width,
            "patch_size": self.patch_size,
            "preprocess": asdict(self.preprocess),
        }

    def images(self, image: Pixels, height: int, width: int) -> Tensor:
        """uint8 (H, W, 3) to float32 (3, height, width), resized and normalised."""
        return self.normalize(self.pixels(image, height, width))

    def pixels(self, image: Pixels, height: int, width: int) -> Tensor:
        """uint8 (H, W, 3) to uint8 (3, height, width), resized and not yet normalised."""
        return resize_pixels(image, height, width, self.preprocess.interpolation)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 (..., 3, H, W) to float32."""
        return self._transform.normalize(pixels)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Maps of the layers, in their order.

        Args:
            images: float (B, 3, H, W), normalised; H and W from one patch up, best multiples of the patch size.

        Returns:
            float32 (B, C, H // patch_size, W // patch_size) each, on the tower's device.
        """
        self._before()
        maps = self.tower.forward_intermediates(images.to(self.device), self.layers, as_maps=True, norm=self.norm)
        return [found.float() for found in maps]

    @torch.no_grad()
    def tokens(self, images: Tensor) -> list[Tensor]:
        """As calling it, but tokens float32 (B, N, C) each, the class token first where the tower has one."""
        self._before()
        found = self.tower.forward_intermediates(images.to(self.device), self.layers, norm=self.norm)
        return [tokens.float() for tokens in found]


def fitting(length: float, patch_size: int) -> int:
    """The multiple of the patch size that is nearest to a length in pixels, at least one patch."""
    return max(1, round(length / patch_size)) * patch_size


def _counts(key: str, last: int, norm: bool) -> bool:
    """Whether a weight has a part in the maps of blocks up to `last`."""
    if ".resblocks." in key:
        return int(key.split(".resblocks.")[1].split(".")[0]) <= last
    return norm if key.startswith("ln_post.") else not key.startswith(("attn_pool.", "proj"))
