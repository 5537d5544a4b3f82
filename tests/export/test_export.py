"""Exported towers of every kind give the eager numbers, also at sizes that nobody checked before."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight import checkpoints, pe
from midsight.configs import PETextConfig, PreprocessConfig
from midsight.errors import CheckpointError, ExportError, InputError, OutputError, ShapeError
from midsight.export import ExportConfig, Exported, Runner, export, read_card
from midsight.export.agree import compare
from midsight.export.towers import ImageEmbedding
from midsight.files import content_hash
from tests.pe import tiny

QUICK = ExportConfig(rounds=1, sample_seconds=0.0)
TEXT = PETextConfig(context_length=12, width=32, heads=2, layers=2, output_dim=24)
SMALL = dict(layers=2, width=32, patch_size=8, image_size=32)
DENSE = dict(pool_type="none", output_dim=None, use_ln_post=False, ls_init_value=0.1)
KINDS = {  # overrides of the tower, arguments of the export
    "pooled by attention": (dict(), dict()),
    "class token": (dict(use_cls_token=True, pool_type="tok"), dict()),
    "no rope": (dict(use_rope2d=False, pool_type="avg", use_ln_pre=False), dict()),
    "no position table": (dict(use_abs_posemb=False, **DENSE), dict()),
    "maps of a block": (dict(use_cls_token=True, ls_init_value=0.1), dict(layer=0, as_maps=True)),
    "maps of the last block": (DENSE, dict(as_maps=True)),
}


def saved(folder: Path, tower: pe.VisionTransformer, text: PETextConfig | None = None) -> Path:
    """A tower, or a pair of it and a random text tower, in a folder."""
    state = tower.state_dict()
    if text is not None:
        pair = tiny.drawn(pe.CLIP(tower.config, text))
        state = pair.state_dict() | {f"visual.{key}": tensor for key, tensor in state.items()}
    return checkpoints.save_pretrained(
        folder, state, name="small", vision=tower.config, text=text, preprocess=PreprocessConfig(32, mean=(0.4,) * 3)
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pair of towers."""
    return saved(tmp_path_factory.mktemp("models") / "pair", tiny.vision(**SMALL, use_cls_token=True), TEXT)


@pytest.fixture(scope="module", params=["onnx", "openvino", "pt2"])
def exported(request: pytest.FixtureRequest, pair: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Exported]:
    """The pair with free sizes, in each format."""
    return export(pair, tmp_path_factory.mktemp("out") / "out", request.param, dynamic=True, config=QUICK)


def agrees(runner: Runner, expected: torch.Tensor, x: torch.Tensor) -> None:
    found = runner(x.numpy())
    assert expected.std() > 0.05  # otherwise the next line could not fail
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_both_towers_in_every_format(exported: list[Exported], pair: Path) -> None:
    model = midsight.load(pair, device="cpu").model
    assert isinstance(model, pe.CLIP)
    image, text = (Runner(one.path, threads=1) for one in exported)
    for batch, height, width in ((1, 16, 72), (5, 45, 33), (2, 32, 32)):
        x = tiny.images(batch, height, width)
        agrees(image, model.encode_image(x, normalize=True), x)
    for batch, length in ((1, 12), (4, 7), (9, 2)):
        tokens = torch.randint(1, 49408, (batch, length), generator=torch.Generator().manual_seed(0))
        agrees(text, model.encode_text(tokens, normalize=True), tokens)


def test_a_file_says_what_it_is(exported: list[Exported], pair: Path) -> None:
    model = midsight.load(pair, device="cpu")
    image, text = (read_card(one.path) for one in exported)
    assert [image, text] == [one.card for one in exported]
    assert (image.tower, text.tower) == ("image", "text")
    assert image.model == "small"
    assert image.identity == text.identity == model.identity
    assert image.preprocess == PreprocessConfig(32, mean=(0.4,) * 3)
    assert text.context_length == 12
    assert image.logit_scale == pytest.approx(float(model.model.logit_scale.exp()))
    assert image.input.shape == ("batch", 3, "height", "width")
    assert image.output.shape == ("batch", 24)
    assert (text.input.dtype, text.input.shape) == ("int64", ("batch", "length"))


def test_the_report_holds_agreement_latency_and_bounds(exported: list[Exported]) -> None:
    folder = exported[0].path.parent
    report = json.loads((folder / "report.json").read_text())
    assert report["bounds"]["min_cosine"] == 0.9999
    for file, shapes in zip(
        report["files"],
        ([[1, 3, 32, 32], [7, 3, 32, 32], [1, 3, 24, 48], [7, 3, 24, 48]], [[1, 12], [7, 12], [1, 6], [7, 6]]),
        strict=True,
    ):
        assert [entry["input"] for entry in file["agreement"]] == shapes
        assert all(entry["cosine"] > 0.999999 and entry["relative_error"] < 1e-5 for entry in file["agreement"])
        assert file["latency"]["low"] <= file["latency"]["ratio"] <= file["latency"]["high"]
        assert file["sha256"] == {name: content_hash(folder / name) for name in file["sha256"]}
        assert sum((folder / name).stat().st_size for name in file["sha256"]) == file["bytes"]
        assert file["file"] in file["sha256"]
    allowed = {"image", "text", "report"}
    assert {path.stem for path in folder.iterdir()} == allowed
    assert len(list(folder.parent.iterdir())) == 1  # no temporary folder


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_towers_of_every_kind(kind: str, tmp_path: Path) -> None:
    import onnxruntime

    overrides, arguments = KINDS[kind]
    tower = tiny.vision(**(SMALL | overrides))
    (one,) = export(saved(tmp_path / "m", tower), tmp_path / "out", "onnx", dynamic=True, config=QUICK, **arguments)
    session = onnxruntime.InferenceSession(str(one.path), providers=["CPUExecutionProvider"])
    for shape in ((1, 56, 24), (3, 40, 70)):
        x = tiny.images(*shape)
        if one.card.gives == "embedding":
            expected = torch.nn.functional.normalize(tower(x), dim=-1)
        else:
            (expected,) = tower.forward_intermediates(x, [arguments.get("layer", -1)], as_maps="as_maps" in arguments)
        assert expected.std() > 0.05
        (found,) = session.run([one.card.output.name], {"images": x.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=2e-5)
        assert len(one.card.output.shape) == expected.ndim
    assert [entry.name for entry in session.get_outputs()] == [one.card.gives]
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["midsight"])["layer"] == arguments.get("layer")


@pytest.mark.slow
@torch.inference_mode()
def test_a_packaged_trunk_with_free_sizes(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = pe.PEConfig(**(tiny.VISION | dict(stem="efficientnet_lite2", patch_size=32, image_size=64, layers=1)))
        tower = pe.VisionTransformer(config).eval()
    (one,) = export(saved(tmp_path / "m", tower), tmp_path / "out", "onnx", dynamic=True, config=QUICK)
    x = tiny.images(2, 96, 160)
    np.testing.assert_allclose(Runner(one.path)(x.numpy()), ImageEmbedding(tower)(x).numpy(), rtol=1e-3, atol=1e-5)


@torch.inference_mode()
def test_a_fixed_size_takes_no_other(tmp_path: Path, pair: Path) -> None:
    (one,) = export(pair, tmp_path / "out", "onnx", layer=-1, image_size=48, config=QUICK)
    assert one.card.input.shape == ("batch", 3, 48, 48)
    assert one.card.output.shape == ("batch", 37, 32)
    assert one.card.layer == 1
    assert one.card.preprocess is not None
    assert one.card.preprocess.image_size == 48
    assert len(one.agreements) == 2
    runner = Runner(one.path)
    assert runner(tiny.images(3, 48, 48).numpy()).shape == (3, 37, 32)
    for wrong in (tiny.images(1, 32, 32).numpy(), tiny.images(1, 48, 48).double().numpy(), np.zeros(3, np.float32)):
        with pytest.raises(ShapeError, match=r"images must be float32 \(batch, 3, 48, 48\)"):
            runner(wrong)


ALONE = """
import json, sys
sys.modules.update(torch=None, midsight=None, onnx=None)  # any import of them fails
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
card = json.loads(session.get_modelmeta().custom_metadata_map["midsight"])
numpy.save(sys.argv[3], session.run([card["output"]["name"]], {card["input"]["name"]: numpy.load(sys.argv[2])})[0])
"""


@torch.inference_mode()
def test_onnxruntime_alone_is_enough(tmp_path: Path, pair: Path) -> None:
    (one,) = export(pair, tmp_path / "out", "onnx", layer=0, as_maps=True, config=QUICK)
    x = tiny.images(2, 32, 32)
    np.save(tmp_path / "x.npy", x.numpy())
    files = (one.path, tmp_path / "x.npy", tmp_path / "y.npy")
    subprocess.run([sys.executable, "-c", ALONE, *map(str, files)], check=True)
    model = midsight.load(pair, device="cpu", layer=0)
    (expected,) = model.tower.forward_intermediates(x, [0], as_maps=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_an_operator_that_the_format_lacks_leaves_nothing(
    tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageEmbedding, "forward", lambda self, images: torch.special.bessel_j0(self.tower(images)))
    with pytest.raises(ExportError, match=r"cannot be written as onnx: operator prims.bessel_j0.*--to pt2"):
        export(pair, tmp_path / "out", "onnx", config=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_code_that_cannot_be_traced_leaves_nothing(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageEmbedding, "forward", lambda self, images: images * (1 if images.sum() > 0 else 2))
    with pytest.raises(ExportError, match="torch.export cannot follow the image tower of small"):
        export(pair, tmp_path / "out", "pt2", config=QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [1.02, float("nan")])
def test_other_numbers_are_refused(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    honest = ImageEmbedding.forward

    def forward(self: ImageEmbedding, images: torch.Tensor) -> torch.Tensor:
        return honest(self, images) * (wrong if torch.compiler.is_exporting() else 1)

    monkeypatch.setattr(ImageEmbedding, "forward", forward)
    with pytest.raises(ExportError, match=r"image.pt2: embedding of an input of \(1, 3, 32, 32\) differs from eager"):
        export(pair, tmp_path / "out", "pt2", config=QUICK)
    assert list(tmp_path.iterdir()) == []


@torch.inference_mode()
def test_large_weights_go_to_a_file_beside(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midsight.export.write.ONE_FILE_BYTES", 0)
    (tmp_path / "out").mkdir()  # an empty folder is no obstacle
    (one,) = export(pair, tmp_path / "out", "onnx", layer=-1, config=QUICK)
    assert (tmp_path / "out" / "image.onnx.data").stat().st_size > 50_000
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())["files"]
    assert sorted(entry["sha256"]) == ["image.onnx", "image.onnx.data"]
    (expected,) = midsight.load(pair, device="cpu").tower.forward_intermediates(tiny.images(2, 32, 32), [-1])
    agrees(Runner(one.path), expected, tiny.images(2, 32, 32))


def test_what_is_there_stays(tmp_path: Path, pair: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export(pair, tmp_path / "out", "pt2", config=QUICK)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_what_cannot_be_exported_is_told(tmp_path: Path, pair: Path) -> None:
    with pytest.raises(InputError, match="onnx, openvino, pt2"):
        export(pair, tmp_path / "out", "tflite")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pools its features"):
        export(pair, tmp_path / "out", "pt2", as_maps=True)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_told(tmp_path: Path, exported: list[Exported]) -> None:
    for suffix in (".onnx", ".xml", ".pt2"):
        (tmp_path / f"a{suffix}").write_bytes(b"something else")
        with pytest.raises(CheckpointError, match=rf"a\{suffix}"):
            read_card(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match="no such file"):
        read_card(tmp_path / "b.onnx")
    with pytest.raises(InputError, match="ending"):
        read_card(tmp_path / "a.tflite")
    card = exported[0].card
    assert type(card).from_json(replace(card, layer=3).to_json()) == replace(card, layer=3)
    with pytest.raises(CheckpointError, match="version 99"):
        type(card).from_json(card.to_json().replace('"version": 1', '"version": 99'))


def test_comparison_of_maps_is_along_channels() -> None:
    expected = np.ones((1, 4, 2, 2), np.float32)
    found = expected.copy()
    found[0, :, 1, 1] = (1, 1, 1, -1)
    worst = compare(found, expected, (1,), "maps")
    assert worst.max_error == 2
    assert worst.relative_error == pytest.approx(1)  # |(0, 0, 0, 2)| / |(1, 1, 1, 1)|
    assert worst.cosine == pytest.approx(0.5)
    with pytest.raises(ExportError, match="shape"):
        compare(found[:, :2], expected, (1,), "maps")


def test_signals_are_heard_behind_openvino(tmp_path: Path) -> None:
    """OpenVINO leaves a stack for signals on which Python's handlers crash, on processors with AMX."""
    model = saved(tmp_path / "tower", tiny.vision(**SMALL, **DENSE))
    export(model, tmp_path / "out", to="openvino", layer=-1, config=QUICK)
    code = (
        "import ctypes, glob, os, signal, sys\n"
        "import numpy as np\n"
        "from midsight.export import Runner\n"
        "heard = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: heard.append(sorted(str(k) for k in range(1000))))\n"
        "runner = Runner(glob.glob(sys.argv[1] + '/*.xml')[0])\n"
        "runner(np.zeros((1, 3, 32, 32), dtype=np.float32))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "stack = (ctypes.c_void_p * 3)()\n"
        "ctypes.CDLL(None).sigaltstack(None, stack)\n"
        "print(len(heard), stack[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["1", "None"], done.stderr[-500:]
