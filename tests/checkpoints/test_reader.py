"""Every kind of file and folder, in every layout, to the same published state dict."""

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from midsight import checkpoints
from midsight.checkpoints.writer import write_sharded
from midsight.errors import CheckpointError, UnknownModelError
from tests.checkpoints import tiny

State = dict[str, Tensor]
PAIRS: dict[str, Callable[[State], State]] = {
    "official": checkpoints.to_official,
    "open_clip": checkpoints.to_open_clip,
    "transformers": lambda state: {f"clip.{key}": tensor for key, tensor in state.items()},
}
TOWERS: dict[str, Callable[[State], State]] = {
    "official": checkpoints.to_official,
    "timm": checkpoints.to_timm,
    "perception_lm": checkpoints.to_perception_lm,
    "perception_lm native": checkpoints.to_perception_lm_native,
}


def save(state: State, path: Path) -> Path:
    """By the other libraries' own writers."""
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("layout", PAIRS)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "no_suffix_that_says_anything.bin"])
def test_a_pair_in_every_layout(layout: str, name: str, tmp_path: Path) -> None:
    ours = tiny.pair()
    path = save(PAIRS[layout](ours), tmp_path / name)
    assert checkpoints.detect_layout(checkpoints.read_tensors(path)) == layout
    assert tiny.same(checkpoints.read_state_dict(path), ours)


@pytest.mark.parametrize("tower", tiny.TOWERS)
@pytest.mark.parametrize("layout", TOWERS)
def test_a_tower_in_every_layout(layout: str, tower: str, tmp_path: Path) -> None:
    ours = tiny.weights(tiny.TOWERS[tower])
    path = save(TOWERS[layout](ours), tmp_path / "a.safetensors")
    assert checkpoints.detect_layout(checkpoints.read_tensors(path)) == layout.split()[0]
    assert tiny.same(checkpoints.read_state_dict(str(path)), ours)


@pytest.mark.parametrize("wrapper", ["state_dict", "weights", "model"])
def test_wrapped_files_with_what_training_leaves_beside(wrapper: str, tmp_path: Path) -> None:
    ours = tiny.pair()
    inside = OrderedDict((f"module.{key}", tensor) for key, tensor in ours.items())
    torch.save({wrapper: inside, "step": 7, "optimizer": {"state": {0: torch.zeros(3)}}}, tmp_path / "a.pt")
    assert tiny.same(checkpoints.read_state_dict(tmp_path / "a.pt"), ours)


def test_parameters_and_old_pickles(tmp_path: Path) -> None:
    ours = tiny.pair()
    torch.save({k: torch.nn.Parameter(v) for k, v in ours.items()}, tmp_path / "a.pt")
    torch.save(ours, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert tiny.same(checkpoints.read_state_dict(tmp_path / "a.pt"), ours)
    assert not any(t.requires_grad for t in checkpoints.read_state_dict(tmp_path / "a.pt").values())
    assert tiny.same(checkpoints.read_state_dict(tmp_path / "old.pt"), ours)


@pytest.mark.parametrize("layout", PAIRS)
def test_sharded_folders(layout: str, tmp_path: Path) -> None:
    ours = tiny.pair()
    stem = "open_clip_model" if layout == "open_clip" else "model"
    written = write_sharded(tmp_path, PAIRS[layout](ours), stem=stem, max_shard_size="1MB")
    assert len(written) > 3
    assert tiny.same(checkpoints.read_state_dict(tmp_path), ours)
    assert tiny.same(checkpoints.read_state_dict(written[-1]), ours)


def test_a_folder_with_one_file_of_any_name(tmp_path: Path) -> None:
    save(tiny.pair(), tmp_path / "PE.pt")
    assert tiny.same(checkpoints.read_state_dict(tmp_path), tiny.pair())
    save(tiny.pair(1), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="a folder with 2 weight files"):
        checkpoints.read_state_dict(tmp_path)


def test_a_hub_cache_whose_shards_are_links(tmp_path: Path) -> None:
    repository = tmp_path / "models--facebook--PE"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(write_sharded(blobs, tiny.pair(), max_shard_size="1MB")):
        file.rename(blobs / f"blob{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/blob{number}")
    assert tiny.same(checkpoints.read_state_dict(snapshot), tiny.pair())


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_what_was_read_can_be_trained_without_touching_the_file(name: str, tmp_path: Path) -> None:
    path = save(tiny.pair(), tmp_path / name)
    before = path.read_bytes()
    for tensor in checkpoints.read_state_dict(path).values():
        tensor.add_(1)
    assert path.read_bytes() == before


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoints.read_state_dict(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="a folder with no weights"):
        checkpoints.read_state_dict(tmp_path)
    with pytest.raises(UnknownModelError, match="PE-Core-L14-336"):
        checkpoints.read_state_dict("PE-Core-L14-366")


def test_a_foreign_model_is_named_by_its_first_tensors(tmp_path: Path) -> None:
    path = save(
        {"vision_model.embeddings.x": torch.zeros(2), "resnet.conv": torch.zeros(2)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"a\.safetensors") as caught:
        checkpoints.open_pretrained(path)
    assert "conv1.weight is missing" in str(caught.value)
    path = save({"layer1.0.conv1.weight": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"not a Perception Encoder.*'layer1\.0\.conv1\.weight'"):
        checkpoints.read_state_dict(path)


def test_an_index_that_names_an_absent_tensor(tmp_path: Path) -> None:
    index = write_sharded(tmp_path, tiny.pair(), max_shard_size="1MB")[-1]
    content = json.loads(index.read_text())
    content["weight_map"]["visual.extra"] = content["weight_map"]["visual.proj"]
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"lacks 1 of its tensors, the first is 'visual\.extra'"):
        checkpoints.read_state_dict(tmp_path)
