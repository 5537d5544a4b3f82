"""Telling configurations by shapes, and what is said when they are not the ones asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midsight import checkpoints
from midsight.configs import MODELS, with_image_size
from midsight.errors import CheckpointError
from tests.checkpoints import tiny


def empty(name: str, pair: bool = True, image_size: int | None = None) -> dict[str, torch.Tensor]:
    """A published model's tensors without memory."""
    model = MODELS[name]
    vision = with_image_size(model.vision, image_size or model.vision.image_size)
    shapes = checkpoints.expected_shapes(vision, model.text if pair else None)
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_recognised(name: str) -> None:
    model = MODELS[name]
    assert checkpoints.infer_config(empty(name)) == (name.removesuffix("-Tiling"), model.vision, model.text)
    if model.text:
        assert checkpoints.infer_config(empty(name, pair=False)) == (name, model.vision, None)
    checkpoints.check(empty(name), model.vision, model.text)


def test_another_grid_keeps_the_name_and_tells_the_size() -> None:
    name, vision, text = checkpoints.infer_config(empty("PE-Core-L14-336", image_size=448))
    assert (name, vision.image_size, text) == ("PE-Core-L14-336", 448, MODELS[name].text)


@pytest.mark.parametrize("tower", tiny.TOWERS.values(), ids=tiny.TOWERS)
def test_a_configuration_of_ones_own(tower: object) -> None:
    assert checkpoints.infer_config(tiny.weights(tower)) == (None, tower, None)


def test_truncated_towers_keep_their_heads() -> None:
    state = {k: v for k, v in empty("PE-Core-G14-448", pair=False).items() if ".resblocks.49." not in k}
    assert checkpoints.infer_config(state) == (None, replace(MODELS["PE-Core-G14-448"].vision, layers=49), None)


def test_what_cannot_be_told() -> None:
    state = tiny.weights(replace(tiny.CORE, width=320, heads=5))
    with pytest.raises(CheckpointError, match="width 320 .* the number of heads is not known"):
        checkpoints.infer_config(state)
    with pytest.raises(CheckpointError, match="no vision tower"):
        checkpoints.infer_config(checkpoints.text_tower(tiny.pair()))
    with pytest.raises(CheckpointError, match=r"load its whole folder, where config\.json describes it"):
        checkpoints.infer_config(tiny.weights() | {"stem.conv.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="10 patches, expected a square number"):
        checkpoints.infer_config(tiny.weights() | {"positional_embedding": torch.zeros(11, 192)})
    with pytest.raises(CheckpointError, match="expected 4 axes"):
        checkpoints.infer_config(tiny.weights() | {"conv1.weight": torch.zeros(192)})


def message(state: dict[str, torch.Tensor], name: str, pair: bool = True) -> str:
    model = MODELS[name]
    with pytest.raises(CheckpointError) as caught:
        checkpoints.check(state, model.vision, model.text if pair else None, Path("weights/a.pt"))
    return str(caught.value)


def test_another_published_model() -> None:
    said = message(empty("PE-Core-B16-224"), "PE-Core-L14-336")
    assert said.startswith("weights/a.pt: holds PE-Core-B16-224 (width 768, 12 blocks, patch 16), but PE-Core-L14-336")
    assert "(width 1024, 24 blocks, patch 14) was asked for" in said
    assert "pe.CLIP.from_config('PE-Core-B16-224', pretrained=True, checkpoint_path='weights/a.pt')" in said
    said = message(empty("PE-Lang-L14-448"), "PE-Spatial-L14-448")
    assert "pe.VisionTransformer.from_config('PE-Lang-L14-448'" in said


def test_another_grid() -> None:
    said = message(empty("PE-Core-L14-336", image_size=448), "PE-Core-L14-336")
    assert "448 pixels (a grid of 32x32), but 336 pixels (24x24)" in said
    assert "from_config('PE-Core-L14-336', pretrained=True, image_size=448, checkpoint_path='weights/a.pt')" in said


def test_a_tower_where_a_pair_was_asked_for() -> None:
    said = message(empty("PE-Core-L14-336", pair=False), "PE-Core-L14-336")
    assert "holds a vision tower alone (PE-Core-L14-336), but a CLIP pair was asked for" in said
    assert "pe.VisionTransformer.from_config('PE-Core-L14-336'" in said


def test_what_is_missing_left_over_or_of_another_shape() -> None:
    state = empty("PE-Core-B16-224")
    del state["visual.proj"], state["ln_final.weight"]
    state["extra"] = torch.zeros(1)
    state["visual.ln_pre.bias"] = torch.zeros(5)
    said = message(state, "PE-Core-B16-224")
    assert "2 missing (visual.proj, ln_final.weight)" in said
    assert "1 unexpected (extra)" in said
    assert "1 of another shape (visual.ln_pre.bias (5,) for (768,))" in said


def test_integers_and_absurd_depths() -> None:
    with pytest.raises(CheckpointError, match=r"conv1\.weight is torch\.int8, expected a floating dtype"):
        checkpoints.check(tiny.weights() | {"conv1.weight": torch.zeros(192, 3, 16, 16, dtype=torch.int8)}, tiny.CORE)
    with pytest.raises(CheckpointError, match="too few for the 1000000000000 blocks"):
        checkpoints.check(tiny.weights(), replace(tiny.CORE, layers=10**12))


def test_a_packaged_stem_is_taken_as_it_is() -> None:
    vision = replace(tiny.CORE, patch_size=32, image_size=128, stem="efficientnet_lite2")
    state = {k: v for k, v in tiny.weights(replace(vision, stem="patch")).items() if k != "conv1.weight"}
    with pytest.raises(CheckpointError, match="the weights of the stem 'efficientnet_lite2'"):
        checkpoints.check(state, vision)
    stem = {"stem.conv.weight": torch.zeros(32, 3, 3, 3), "conv1.weight": torch.zeros(192, 1280, 1, 1)}
    checkpoints.check(state | stem, vision)
    paired = {f"visual.{k}": v for k, v in (state | stem).items()} | checkpoints.text_tower(tiny.pair())
    checkpoints.check(paired, vision, tiny.TEXT)
