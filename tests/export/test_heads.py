"""Exported heads of every kind give what the package's own segmenter and depth estimator give."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight import checkpoints, pe
from midsight.api import dense_encoder, load_depth_estimator, load_segmenter
from midsight.configs import PreprocessConfig
from midsight.errors import CheckpointError, ConfigError, ExportError, InputError, UnknownModelError
from midsight.export import ExportConfig, Runner, export, read_card
from midsight.export.agree import compare_pixels
from midsight.export.heads import DenseGraph
from midsight.files import content_hash
from midsight.tasks.depth import DepthRange
from midsight.tasks.heads import HeadConfig
from midsight.tasks.saved import SavedHead, save_head
from midsight.tasks.segmentation import SegmentConfig
from tests import peers
from tests.export.test_export import ALONE
from tests.pe import tiny

QUICK = ExportConfig(rounds=1, sample_seconds=0.0)
SIDE = 64
CORE = dict(width=32, image_size=SIDE, use_cls_token=True)  # pooled by attention, as PE-Core
SPATIAL = dict(
    width=32, image_size=SIDE, layers=2, pool_type="none", output_dim=None, use_ln_post=False, ls_init_value=0.1
)
NAMES = ("sky", "wall", "cup")  # of 5 classes
KINDS = {  # task, overrides of the tower, shape of the head, blocks, final norm
    "linear": ("depth", SPATIAL | dict(layers=1), dict(kind="linear"), (-1,), False),
    "bn_linear on two blocks": ("segmentation", CORE, dict(kind="bn_linear", inputs=2), (1, 3), True),
    "dpt": ("segmentation", SPATIAL, dict(kind="dpt", features=8, dropout=0.1), (1,), False),
    "dpt on four blocks": ("depth", CORE, dict(kind="dpt", inputs=4), (0, 1, 2, 3), False),
    "dpt of the input's size": ("segmentation", SPATIAL | dict(patch_size=8, layers=1), dict(kind="dpt"), (-1,), False),
}


def save_tower(folder: Path, **overrides: object) -> Path:
    tower = tiny.vision(**overrides)
    return checkpoints.save_pretrained(
        folder, tower.state_dict(), name="small", vision=tower.config, text=None,
        preprocess=PreprocessConfig(tower.image_size, mean=(0.4,) * 3),
    )  # fmt: skip


def save(folder: Path, tower: Path, task: str, head: dict, layers: tuple[int, ...] = (-1,), norm: bool = False) -> Path:
    """A random head in a folder."""
    encoder = dense_encoder(midsight.load(tower, device="cpu"), layers, norm)
    depths = DepthRange(16, 0.1, 10.0) if task == "depth" else None
    shape = HeadConfig(encoder.width, 16 if depths else 5, **head)
    about = encoder.describe() | {"name": str(tower)}
    saved = SavedHead(task, shape, about, SIDE, () if depths else NAMES, depths)
    return save_head(folder, saved, peers.randomize(saved.build(), seed=1).state_dict())


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tower(tmp_path_factory.mktemp("towers") / "small", **SPATIAL)


@pytest.fixture(scope="module")
def segment(tower: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head for segmentation."""
    return save(tmp_path_factory.mktemp("heads") / "mine", tower, "segmentation", dict(kind="linear"))


@pytest.mark.parametrize("kind", KINDS)
def test_heads_of_every_kind_at_free_sizes(kind: str, tmp_path: Path) -> None:
    task, overrides, shape, layers, norm = KINDS[kind]
    tower = save_tower(tmp_path / "tower", **overrides)
    head = save(tmp_path / "head", tower, task, shape, layers, norm)
    (one,) = export(None, tmp_path / "out", "onnx", head=head, dynamic=True, config=QUICK)
    assert one.path.name == f"{task}.onnx"
    model = midsight.load(tower, device="cpu")
    for x in (tiny.images(1, 96, 48), tiny.images(3, 64, 112)):
        if task == "segmentation":
            expected = load_segmenter(head, model, SegmentConfig(SIDE, sliding=False)).logits(x)
        else:
            expected = load_depth_estimator(head, model).metres(x)[:, None]
        assert expected.std() > 0.01  # otherwise the next line could not fail
        np.testing.assert_allclose(Runner(one.path)(x.numpy()), expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_a_head_at_its_own_size_in_every_format(to: str, tower: Path, segment: Path, tmp_path: Path) -> None:
    (one,) = export(None, tmp_path / "out", to, head=segment, config=QUICK)
    assert one.card.input.shape == ("batch", 3, SIDE, SIDE)
    assert one.card.output.shape == ("batch", 5, SIDE, SIDE)
    x = tiny.images(7, SIDE, SIDE)
    segmenter = load_segmenter(segment, midsight.load(tower, device="cpu"), SegmentConfig(SIDE, sliding=False))
    np.testing.assert_allclose(Runner(one.path)(x.numpy()), segmenter.logits(x).numpy(), rtol=1e-3, atol=1e-4)
    assert [agreement.input for agreement in one.agreements] == [(1, 3, SIDE, SIDE), (7, 3, SIDE, SIDE)]
    assert all(agreement.same == 1.0 and agreement.cosine > 0.999999 for agreement in one.agreements)


@pytest.mark.slow
def test_a_head_on_a_packaged_trunk(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = dict(stem="efficientnet_lite2", patch_size=32, image_size=64, layers=1, pool_type="none")
        plain = dict(output_dim=None, use_ln_post=False)
        tower = pe.VisionTransformer(pe.PEConfig(**(tiny.VISION | trunk | plain))).eval()
    folder = checkpoints.save_pretrained(
        tmp_path / "tower", tower.state_dict(), name="t", vision=tower.config, text=None,
        preprocess=PreprocessConfig(64),
    )  # fmt: skip
    head = save(tmp_path / "head", folder, "depth", dict(kind="dpt"))
    (one,) = export(None, tmp_path / "out", "onnx", head=head, dynamic=True, config=QUICK)
    x = tiny.images(2, 96, 160)
    expected = load_depth_estimator(head, midsight.load(folder, device="cpu")).metres(x)[:, None]
    np.testing.assert_allclose(Runner(one.path)(x.numpy()), expected.numpy(), rtol=1e-3, atol=1e-4)


def test_a_file_with_a_head_says_what_it_is(tower: Path, segment: Path, tmp_path: Path) -> None:
    (one,) = export(tower, tmp_path / "out", "pt2", head=segment, image_size=96, dynamic=True, config=QUICK)
    card = read_card(one.path)
    assert card == one.card
    encoder = dense_encoder(midsight.load(tower, device="cpu"))
    assert (card.model, card.identity) == ("small", encoder.identity)
    assert card.preprocess == PreprocessConfig(96, mean=(0.4,) * 3)
    assert card.head is not None
    assert (card.head.name, card.head.task, card.head.kind) == ("mine", "segmentation", "linear")
    assert card.head.classes == (*NAMES, "class 3", "class 4")
    assert (card.head.layers, card.head.norm, card.head.fit) == ((1,), False, "squash")
    assert card.head.identity == content_hash(segment / "model.safetensors")
    assert card.input.shape == ("batch", 3, "height", "width")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["head"]["classes"] == list(card.head.classes)
    (file,) = report["files"]
    shapes = [[1, 3, 96, 96], [7, 3, 96, 96], [1, 3, 64, 128], [7, 3, 64, 128]]
    assert [entry["input"] for entry in file["agreement"]] == shapes
    assert file["latency"]["low"] <= file["latency"]["ratio"] <= file["latency"]["high"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "segmentation.pt2"]


def test_depth_says_its_range(tower: Path, tmp_path: Path) -> None:
    head = save(tmp_path / "head", tower, "depth", dict(kind="linear"))
    (one,) = export(None, tmp_path / "out", "onnx", head=head, config=QUICK)
    assert one.card.gives == "depth"
    assert one.card.head is not None
    assert (one.card.head.nearest, one.card.head.farthest) == (0.1, 10.0)
    x = tiny.images(2, SIDE, SIDE).numpy()
    np.save(tmp_path / "x.npy", x)
    files = (one.path, tmp_path / "x.npy", tmp_path / "y.npy")
    subprocess.run([sys.executable, "-c", ALONE, *map(str, files)], check=True)  # neither torch nor midsight
    metres = np.load(tmp_path / "y.npy")
    assert metres.shape == (2, 1, SIDE, SIDE)
    assert 0.1 <= metres.min() < metres.max() <= 10.0


def test_a_head_of_another_encoder_is_refused(segment: Path, tmp_path: Path) -> None:
    other = save_tower(tmp_path / "other", **(SPATIAL | dict(seed=5)))
    with pytest.raises(CheckpointError, match=r"mine: trained on .*, but the encoder is .*; they differ in identity"):
        export(other, tmp_path / "out", "onnx", head=segment, config=QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_names_and_options_that_cannot_be(tower: Path, segment: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownModelError, match=r"no head 'segmnt'; did you mean segment"):
        export(None, out, "onnx", head="segmnt")
    with pytest.raises(UnknownModelError, match="did you mean .*deta_coco_1824pix"):
        export(None, out, "onnx", head="deta_coco")
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read .* folder of a trained head"):
        export(None, out, "onnx", head=tmp_path)
    with pytest.raises(InputError, match="leave out --layer"):
        export(None, out, "onnx", head=segment, layer=1)
    with pytest.raises(InputError, match="--checkpoint is for whole detectors"):
        export(None, out, "onnx", head=segment, checkpoint="x.pt")
    with pytest.raises(InputError, match="--checkpoint is for detectors"):
        export(tower, out, "onnx", checkpoint="x.pt")
    with pytest.raises(InputError, match="leave out SOURCE"):
        export(tower, out, "onnx", head="deta_coco_1824pix")
    with pytest.raises(ConfigError, match="image_size 70 is not a multiple of the patch size 16"):
        export(None, out, "onnx", head=segment, image_size=70)
    assert list(tmp_path.iterdir()) == []


def test_a_head_whose_encoder_is_not_there(tower: Path, tmp_path: Path) -> None:
    moved = save_tower(tmp_path / "moved", **SPATIAL)
    head = save(tmp_path / "head", moved, "segmentation", dict(kind="linear"))
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"cannot be loaded by that name .* Give the encoder as SOURCE"):
        export(None, tmp_path / "out", "pt2", head=head, config=QUICK)
    export(tmp_path / "elsewhere", tmp_path / "out", "pt2", head=head, config=QUICK)


def test_an_operator_that_the_format_lacks_leaves_nothing(
    segment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = DenseGraph.forward
    monkeypatch.setattr(DenseGraph, "forward", lambda self, x: torch.special.bessel_j0(honest(self, x)))
    with pytest.raises(
        ExportError, match=r"the segmentation head mine on small cannot be .* prims.bessel_j0.*--to pt2"
    ):
        export(None, tmp_path / "out", "onnx", head=segment, config=QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [1.02, float("nan")])
def test_other_numbers_are_refused(
    segment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    honest = DenseGraph.forward
    monkeypatch.setattr(DenseGraph, "forward", lambda self, x: honest(self, x) * wrong)
    with pytest.raises(ExportError, match=r"segmentation.pt2: logits of an input of \(1, 3, 64, 64\) differs"):
        export(None, tmp_path / "out", "pt2", head=segment, config=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_comparison_of_pixels_is_against_their_mean_length() -> None:
    expected = np.ones((2, 2, 1, 2), np.float32)
    expected[0, :, 0, 0] = (0, 1e-9)  # a pixel whose logits are all but zero
    found = expected.copy()
    found[0, :, 0, 0] = (1e-8, 0)  # its class is another one
    near = compare_pixels(found, expected, (2,), "logits")
    assert near.relative_error < 1e-7
    assert near.same == 0.75
    found[1, 0, 0, 1] = 3
    worst = compare_pixels(found, expected, (2,), "logits")
    assert worst.max_error == 2
    assert worst.relative_error == pytest.approx(2 / 2**0.5)
    assert worst.cosine == pytest.approx(6 / (12**0.5 * 2))
    assert compare_pixels(found[:, :1], expected[:, :1], (2,), "depth").same is None
    with pytest.raises(ExportError, match="shape"):
        compare_pixels(found[:1], expected, (2,), "logits")
