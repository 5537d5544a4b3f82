"""Folders: what is saved comes back with its preprocessing, and never with another's."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from midsight import checkpoints
from midsight.configs import MODELS, PEConfig, PETextConfig, PreprocessConfig, with_image_size
from midsight.errors import CheckpointError, OutputError
from tests import peers
from tests.checkpoints import tiny

PREPROCESS = PreprocessConfig(96, "center_crop", "bicubic", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
METADATA = {"seed": 3, "revision": "0f3c", "figures": {"top-1": 0.25}}


def save(folder: Path, vision: PEConfig = tiny.CORE, text: PETextConfig | None = tiny.TEXT, **options: object) -> Path:
    options = dict(name="mine", preprocess=PREPROCESS, metadata=METADATA) | options
    return checkpoints.save_pretrained(folder, tiny.weights(vision, text), vision=vision, text=text, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shards", ["5GB", "1MB"])
def test_what_is_saved_comes_back(shards: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "new" / "model", max_shard_size=shards)
    assert any(path.name.endswith(".index.json") for path in folder.iterdir()) == (shards == "1MB")
    found = checkpoints.load_pretrained(folder)
    assert tiny.same(found.state_dict, tiny.pair())
    assert (found.name, found.vision, found.text) == ("mine", tiny.CORE, tiny.TEXT)
    assert (found.preprocess, found.metadata) == (PREPROCESS, METADATA)
    assert checkpoints.open_pretrained(folder).identity(1) == found.identity(-1) != found.identity()
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("tower", tiny.TOWERS)
def test_towers_alone(tower: str, tmp_path: Path) -> None:
    vision = replace(tiny.TOWERS[tower], drop_path=0.1)
    found = checkpoints.load_pretrained(save(tmp_path / "a", vision, None, name=None))
    assert (found.name, found.vision, found.text) == (None, vision, None)
    assert tiny.same(found.state_dict, tiny.weights(vision))


def test_a_tower_with_a_packaged_stem(tmp_path: Path) -> None:
    from midsight import pe

    vision = PEConfig(
        32, 64, 2, 2, 4.0, 24, image_size=96, stem="efficientnet_lite2", use_ln_pre=False, use_ln_post=False
    )
    state = peers.randomize(pe.VisionTransformer(vision)).state_dict()
    folder = checkpoints.save_pretrained(
        tmp_path / "a", state, name="embedded", vision=vision, text=None, preprocess=PreprocessConfig(96)
    )
    found = checkpoints.load_pretrained(folder)
    assert (found.vision, tiny.same(found.state_dict, state)) == (vision, True)
    model = pe.VisionTransformer.from_config(vision, pretrained=True, checkpoint_path=folder)
    assert tiny.same(model.state_dict(), state)


def test_half_precision_is_stored_and_cast_back_when_asked(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", dtype=torch.float16)
    found = checkpoints.load_pretrained(folder).state_dict
    assert {k: v.dtype for k, v in found.items() if v.dtype != torch.float16} == {"logit_scale": torch.float32}
    cast = checkpoints.load_pretrained(folder, dtype=torch.float32).state_dict
    assert tiny.same(cast, {key: tensor.float() for key, tensor in found.items()})
    assert tiny.same(checkpoints.load_pair(folder, tiny.CORE, tiny.TEXT), cast)


def test_saving_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the weights to save in"):
        checkpoints.save_pretrained(
            tmp_path / "a", tiny.pair(), name=None, vision=tiny.LANG, text=None, preprocess=PREPROCESS
        )
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        save(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_saving_over_an_old_model(tmp_path: Path) -> None:
    save(tmp_path / "a", max_shard_size="1MB")
    save(tmp_path / "a", tiny.LANG, None, name="other")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]
    assert checkpoints.load_pretrained(tmp_path / "a").name == "other"


@pytest.mark.parametrize("field", ["preprocess", "vision"])
def test_a_configuration_that_was_not_saved_with_the_weights(field: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    config[field] |= {"mean": [0.5, 0.5, 0.5]} if field == "preprocess" else {"heads": 6, "drop_path": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json was not saved with model\.safetensors"):
        checkpoints.load_pretrained(folder)


def test_a_name_and_notes_may_be_edited(tmp_path: Path) -> None:
    folder = save(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"name": "better", "metadata": {"note": "x"}}))
    found = checkpoints.load_pretrained(folder)
    assert (found.name, found.metadata) == ("better", {"note": "x"})


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        ({"version": 2}, "written in version 2 of the layout"),
        ({"format": "other"}, "not a configuration of midsight, timm or open_clip"),
        ({"vision": None}, "vision is missing"),
        ({"vision": {"width": 3}}, "vision: .*missing"),
        ({"vision": asdict(tiny.CORE) | {"extra": 1}}, "unknown field 'extra'"),
        ({"vision": asdict(tiny.CORE) | {"layers": 2.5}}, "vision.layers is '2.5'"),
        ({"vision": asdict(tiny.CORE) | {"layers": True}}, "vision.layers is 'True'"),
        ({"vision": asdict(tiny.CORE) | {"width": "192"}}, "vision.width is '192'"),
        ({"vision": asdict(tiny.CORE) | {"heads": 5}}, "192 is not a multiple of heads 5"),
        ({"vision": asdict(tiny.CORE) | {"layers": 10**12}}, "too few for the 1000000000002 blocks"),
        ({"vision": asdict(tiny.CORE) | {"image_size": 16 * 10**9}}, "image_size=64 in its configuration"),
        ({"preprocess": {"image_size": 3, "mean": [0, 1]}}, "preprocess.mean"),
        ({"preprocess": {"image_size": 3, "std": [0, 1, 1]}}, "std above 0"),
        ({"preprocess": {"image_size": 3, "resize": "stretch"}}, "preprocess.resize"),
        ({"metadata": 3}, "metadata an object"),
    ],
)
def test_configurations_that_cannot_be(edit: dict[str, object], match: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | edit))
    with pytest.raises(CheckpointError, match=match) as caught:
        checkpoints.load_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_folders_without_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoints.load_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        checkpoints.load_pretrained(tmp_path)
    (save(tmp_path / "b") / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a folder with no weights"):
        checkpoints.load_pretrained(tmp_path / "b")


def published(name: str, text: bool = True) -> dict[str, torch.Tensor]:
    """A published model's shapes, all values equal: quick, and small enough."""
    model = MODELS[name]
    shapes = checkpoints.expected_shapes(model.vision, model.text if text else None)
    return {key: torch.full(shape, 0.5, dtype=torch.float16) for key, shape in shapes.items()}


def test_bare_files_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoints.write_torch(path, published("PE-Spatial-T16-512"))
    found = checkpoints.open_pretrained(path)
    model = MODELS["PE-Spatial-T16-512"]
    assert (found.name, found.vision, found.text) == (model.name, model.vision, None)
    assert found.preprocess == model.preprocess


def test_a_file_name_tells_tiling_apart_and_cannot_lie(tmp_path: Path) -> None:
    vision = tiny.LANG
    checkpoints.write_torch(tmp_path / "PE-Lang-L14-448-Tiling.pt", tiny.weights(vision))
    assert checkpoints.open_pretrained(tmp_path / "PE-Lang-L14-448-Tiling.pt").name is None  # it is not that model


def test_a_tower_out_of_a_perception_lm_is_shown_bicubic_pixels(tmp_path: Path) -> None:
    weights = checkpoints.to_perception_lm(tiny.weights(tiny.LANG)) | {"lm_head.weight": torch.zeros(2, 2)}
    checkpoints.write_safetensors(tmp_path / "model.safetensors", weights)
    (tmp_path / "config.json").write_text('{"model_type": "perception_lm", "architectures": ["X"]}')
    found = checkpoints.open_pretrained(tmp_path)
    assert found.preprocess == PreprocessConfig(56, interpolation="bicubic")
    assert tiny.same(found.state_dict, tiny.weights(tiny.LANG))


def test_a_tower_is_taken_out_of_a_pair(tmp_path: Path) -> None:
    checkpoints.write_torch(tmp_path / "a.pt", {k: v.half() for k, v in tiny.pair().items()})
    state = checkpoints.load_tower(tmp_path / "a.pt", tiny.CORE)
    expected = {key: tensor.half().float() for key, tensor in checkpoints.vision_tower(tiny.pair()).items()}
    assert tiny.same(state, expected)
    with pytest.raises(CheckpointError, match=r"of its own \(width 192, .*\), but another \(width 256"):
        checkpoints.load_tower(tmp_path / "a.pt", replace(tiny.CORE, width=256, heads=4))


def test_heads_are_checked_where_a_folder_tells_them(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", tiny.LANG, None)
    checkpoints.load_tower(folder, replace(tiny.LANG, drop_path=0.2))
    with pytest.raises(CheckpointError, match=r"config\.json tells of another configuration .*heads = 3 for 6"):
        checkpoints.load_tower(folder, replace(tiny.LANG, heads=6))


def test_another_grid_is_an_error_that_says_how_to_load_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model = MODELS["PE-Spatial-T16-512"]
    vision = with_image_size(model.vision, 256)
    checkpoints.write_torch(path, tiny.weights(vision))
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_tower(path, model.vision)
    from midsight import pe

    command = str(caught.value).partition("Load it with ")[2].partition("; ")[0]
    loaded = eval(command, {"pe": pe})  # the message's own words
    assert loaded.config == vision
    assert tiny.same(loaded.state_dict(), tiny.weights(vision))


def test_published_files_load_into_the_models(tmp_path: Path) -> None:
    from midsight import pe

    model = MODELS["PE-Core-T16-384"]
    state = tiny.weights(model.vision, model.text)
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, tmp_path / "a.pt")
    pair = pe.CLIP.from_config("PE-Core-T16-384", pretrained=True, checkpoint_path=tmp_path / "a.pt")
    assert tiny.same(pair.state_dict(), state)
    tower = pe.VisionTransformer.from_config("PE-Core-T16-384", pretrained=True, checkpoint_path=tmp_path / "a.pt")
    assert tiny.same(tower.state_dict(), checkpoints.vision_tower(state))
    with pytest.raises(CheckpointError) as caught:
        pe.CLIP.from_config("PE-Core-S16-384", pretrained=True, checkpoint_path=tmp_path / "a.pt")
    command = str(caught.value).partition("Load it with ")[2].rstrip(".")
    assert tiny.same(eval(command, {"pe": pe}).state_dict(), state)


def test_the_header_carries_the_digest(tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = save(tmp_path / "a")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert len(file.metadata()["midsight_config"]) == 16
    assert load_file(folder / "model.safetensors").keys() == tiny.pair().keys()
