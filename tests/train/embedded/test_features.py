"""What the trunk sees: in batches as one by one, and kept on disk so that an interrupted run goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from midsight.data.crops import CropMixer, Sample
from midsight.errors import CheckpointError
from midsight.train.embedded import features
from tests.train.embedded import small


@pytest.fixture(scope="module")
def mixer(tmp_path_factory: pytest.TempPathFactory) -> CropMixer:
    return small.mixer(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_BATCH", 4)


def test_pixels_are_normalised() -> None:
    pixels = np.array([0, 255, 51], np.uint8).reshape(1, 1, 1, 3)
    found = features.normalised(pixels)
    torch.testing.assert_close(found.flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    assert features.normalised(np.zeros((2, 5, 4, 3), np.uint8)).shape == (2, 3, 5, 4)


@torch.inference_mode()
def test_batches_are_pooled_as_pictures_alone(mixer: CropMixer) -> None:
    net = small.trunk().stem
    pixels = np.stack([mixer.sample(number).pixels for number in range(6)])  # more than one batch
    found = features.pooled(net, pixels)
    expected = torch.cat([net(features.normalised(picture[None])).mean((2, 3)) for picture in pixels])
    assert expected.std(0).max() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_features_of_samples_are_kept_and_continued(
    mixer: CropMixer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, made = small.trunk().stem, []
    sample = CropMixer.sample

    def counted(self: CropMixer, number: int) -> Sample:
        made.append(number)
        return sample(self, number)

    monkeypatch.setattr(CropMixer, "sample", counted)
    first = features.of_samples(net, mixer, 6, tmp_path)
    assert made == [*range(6)]
    assert (first.pooled.shape, first.pooled.dtype, first.drawings.dtype) == ((6, 1280), torch.float32, torch.int64)
    again = features.of_samples(net, mixer, 6, tmp_path)
    assert made == [*range(6)]
    assert torch.equal(again.pooled, first.pooled)
    more = features.of_samples(net, mixer, 10, tmp_path)
    assert made[6:] == [*range(6, 10)]
    assert torch.equal(more.pooled[:6], first.pooled)
    whole = features.of_samples(net, mixer, 10, tmp_path / "anew")
    assert torch.equal(whole.drawings, more.drawings)
    torch.testing.assert_close(whole.pooled, more.pooled, rtol=0.02, atol=0.02)  # half precision, other batches
    assert whole.drawings.tolist() == [mixer.sample(number).drawing for number in range(10)]


def test_kept_features_of_another_mixture_are_refused(mixer: CropMixer, tmp_path: Path) -> None:
    features.of_samples(small.trunk().stem, mixer, 2, tmp_path / "kept")
    with pytest.raises(CheckpointError, match=r"kept: what is kept there differs in seed; delete the folder"):
        features.of_samples(small.trunk().stem, small.mixer(tmp_path, seed=1), 2, tmp_path / "kept")
