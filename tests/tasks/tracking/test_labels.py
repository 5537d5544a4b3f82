"""Label maps to masks of tokens and back; Pillow and torch are the peers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from midsight.errors import InputError
from midsight.tasks.tracking.labels import grid_mask, label_map


@pytest.mark.parametrize("size", [(48, 85), (50, 31), (7, 200)])
def test_tokens_get_the_label_at_their_centre_as_pillow_takes_it(size: tuple[int, int]) -> None:
    blocks = np.random.default_rng(0).integers(0, 4, (3, 4)).astype(np.uint8)
    labels = np.kron(blocks, np.ones((size[0] // 3 + 1, size[1] // 4 + 1), np.uint8))[: size[0], : size[1]]
    mask, names = grid_mask(labels, 6, 10)
    small = np.asarray(Image.fromarray(labels).resize((10, 6), Image.Resampling.NEAREST))
    assert names == sorted(set(labels.ravel()))
    np.testing.assert_array_equal(np.array(names)[mask.argmax(0).numpy()], small)
    assert (mask.sum(0) == 1).all()


def test_small_objects_void_and_gaps() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[1:3, 32:34], labels[20:30, 10:30], labels[39, 0] = 9, 4, 255
    mask, names = grid_mask(labels, 5, 5)
    assert names == [0, 4, 9]
    assert mask[2].nonzero().tolist() == [[0, 4]], "between the centres, but not lost"
    with pytest.raises(InputError, match=r"first\.png: has no object"):
        grid_mask(np.where(labels == 255, 255, 0), 5, 5, "first.png")


def test_masks_grow_stretched_and_the_largest_wins() -> None:
    mask = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    mask[2] *= 0.1  # a weak channel wins where it is at its best
    mask[1] = 0
    large = F.interpolate(mask[None], scale_factor=8, mode="bilinear", align_corners=False)[0].numpy()
    for channel in (0, 2):
        large[channel] -= large[channel].min()
        large[channel] /= large[channel].max()
    inner = np.array([0, 3, 8])[large.argmax(0)].astype(np.uint8)
    np.testing.assert_array_equal(label_map(mask, [0, 3, 8], (32, 40), (32, 40)), inner)
    outer = np.asarray(Image.fromarray(inner).resize((83, 61), Image.Resampling.NEAREST))
    found = label_map(mask, [0, 3, 8], (32, 40), (61, 83))
    np.testing.assert_array_equal(found, outer)
    assert set(np.unique(found)) == {0, 8}
