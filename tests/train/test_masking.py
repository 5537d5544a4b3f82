"""Masked views: what is hidden, and that contrastive and masked gradients stay apart."""

import pytest
import torch

from midsight.errors import ShapeError
from midsight.train import losses
from midsight.train.masking import draw_masks, hide_patches, masked_rows
from tests.train import small


def test_masks_hide_the_same_number_everywhere_and_depend_on_row_and_step() -> None:
    masks = draw_masks(0, 5, [0, 16, 32], patches=20, ratio=0.4)
    assert masks.sum(1).tolist() == [8, 8, 8]
    assert len({tuple(row.tolist()) for row in masks}) == 3
    assert torch.equal(draw_masks(0, 5, [16], 20, 0.4)[0], masks[1])
    assert not torch.equal(draw_masks(0, 6, [16], 20, 0.4)[0], masks[1])


@pytest.mark.parametrize(("batch", "count"), [(131_072, 8192), (32, 2), (8, 1)])
def test_a_sixteenth_of_the_batch_is_masked(batch: int, count: int) -> None:
    assert len(masked_rows(batch, 1 / 16)) == count


def test_hidden_patches_do_not_matter_and_others_do() -> None:
    tower = small.pair().visual.eval()
    hidden = torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, 5] = True  # row 1, column 1 of the 4 x 4 grid
    images, _ = small.batch(1)
    inside, outside = images.clone(), images.clone()
    inside[:, :, 8:16, 8:16] = 0.3
    outside[:, :, 0:8, 0:8] = 0.3
    token = torch.randn(48)
    with torch.no_grad(), hide_patches(tower, hidden, token):
        masked, same, other = tower(images), tower(inside), tower(outside)
    assert torch.equal(masked, same)
    assert not torch.allclose(masked, other)
    with torch.no_grad():
        assert not torch.allclose(tower(images), masked)  # and outside the block nothing is hidden
        assert not torch.allclose(tower(images), tower(inside))


def test_a_mask_of_another_grid_is_refused() -> None:
    tower = small.pair().visual
    with pytest.raises(ShapeError, match=r"\(1, 9\)"), hide_patches(tower, torch.ones(1, 9).bool(), torch.zeros(48)):
        tower(small.batch(1)[0])


def test_the_mask_loss_reaches_the_weights_through_the_masked_view_only() -> None:
    tower, (images, _) = small.pair().visual, small.batch(2)
    images.requires_grad_()
    plain = tower.forward_features(images, norm=True, strip_cls_token=True)
    copies = images.detach().clone().requires_grad_()
    hidden, token = draw_masks(0, 0, [0, 1], 16, 0.4), torch.zeros(48, requires_grad=True)
    with hide_patches(tower, hidden, token):
        masked = tower.forward_features(copies, norm=True, strip_cls_token=True)
    losses.mask_regularisation(masked, plain).backward()
    assert images.grad is None
    assert copies.grad.norm() > 0
    assert token.grad.norm() > 0
    assert tower.proj.grad is None  # no contrastive gradient from here
