"""Towers on a CUDA device: every configuration against the CPU, the Triton kernels compiled, and CUDA graphs for real.

Without such a device this file is skipped, and says so; test_gpu.py and test_graphs.py test what runs anywhere.
"""

import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from midsight import pe
from midsight.configs import MODELS
from midsight.pe import fused, gpu, graphs
from tests.pe import tiny
from tests.pe.test_packed import TEXTS, VARIANTS, relative_error, token_rows

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: what only a GPU can show is not tested on this machine"
)
CUDA = torch.device("cuda")
EXACT = 2e-5  # float32: CPU and GPU add in another order
WIDTHS = {"T": (128, 2), "S": (192, 3), "B": (128, 2), "L": (128, 2), "G": (192, 2)}  # G's heads are 96 wide


@pytest.fixture(autouse=True)
def _float32_is_float32() -> Iterator[None]:
    """cuDNN would otherwise round the patch embedding's products to TF32, as torch does by default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer torch would rather be asked in another way
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
            yield


def shrunk(name: str) -> pe.VisionTransformer:
    """A published tower with two narrow blocks on a grid of 5 x 5; all its switches stay."""
    config = MODELS[name].vision
    width, heads = WIDTHS[name.split("-")[2][0]]
    size, out = 5 * config.patch_size, None if config.output_dim is None else 32
    return tiny.drawn(
        pe.VisionTransformer(replace(config, width=width, heads=heads, layers=2, image_size=size, output_dim=out))
    )


def close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a result on the device is that of the CPU, in the dtype's terms."""
    if dtype == torch.float32:
        return relative_error(found.cpu(), expected) < EXACT
    return bool(torch.cosine_similarity(found.cpu().flatten(1), expected.flatten(1)).min() > 0.999)


def graphed(tower: pe.VisionTransformer) -> graphs.Graphs:
    assert isinstance(tower._packed, gpu.GpuTower)
    assert tower._packed.graphs is not None
    return tower._packed.graphs


def test_kernels_agree_with_double_precision() -> None:
    from tests.pe.interpreted import cases

    assert fused.kernels_for(torch.ones(1, device=CUDA)) is not None, (
        "no Triton kernels on this device: plain torch stands in for them"
    )
    wrong = [(name, error, bound) for name, error, bound in cases(CUDA, torch.bfloat16) if not error < bound]
    assert not wrong


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_every_configuration_agrees_with_the_cpu(name: str) -> None:
    tower = shrunk(name)
    side = tower.image_size
    for size in ((side, side), (side - tower.patch_size, side + 2 * tower.patch_size)):
        images = tiny.images(3, *size)
        expected = tower.cpu()(images), *tower.forward_intermediates(images, [0, 1], as_maps=True)
        tower.to(CUDA)
        for dtype in (None, torch.float32, torch.bfloat16):
            if dtype is not None:
                tower.pack(dtype, graphs=True)
            for _ in range(3):  # eager, captured, replayed
                found = tower(images.to(CUDA)), *tower.forward_intermediates(images.to(CUDA), [0, 1], as_maps=True)
                for one, other in zip(found, expected, strict=True):
                    assert close(one, other, dtype or torch.float32), (size, dtype)
            assert dtype is None or len(graphed(tower)) == 2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_variants_agree_with_the_cpu(variant: str, dtype: torch.dtype) -> None:
    tower, images = tiny.vision(**VARIANTS[variant]), tiny.images(3, 48, 80)
    expected = tower(images), tower.forward_features(images, layer_idx=1, norm=True, strip_cls_token=True)
    tower.to(CUDA).pack(dtype, graphs=True)
    for _ in range(3):
        found = tower(images.to(CUDA)), tower.forward_features(images.to(CUDA), True, 1, True)
        assert all(close(one, other, dtype) for one, other in zip(found, expected, strict=True))


@torch.inference_mode()
def test_truncate_drops_blocks_and_graphs() -> None:
    tower, images = tiny.vision(), tiny.images(2)
    expected = tower.forward_features(images, layer_idx=1)
    tower.to(CUDA).pack(graphs=True)
    for _ in range(2):
        tower.forward_features(images.to(CUDA))
    tower.truncate(1)
    assert len(graphed(tower)) == 0
    for _ in range(3):
        assert relative_error(tower.forward_features(images.to(CUDA)).cpu(), expected) < EXACT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_pairs_agree_with_the_cpu(dtype: torch.dtype) -> None:
    pair, ids = tiny.clip(use_cls_token=True), token_rows(TEXTS)
    clips = torch.stack([tiny.images(2, seed=seed) for seed in range(3)])
    expected = pair.encode_text(ids), pair.encode_video(clips, normalize=True)
    similar = pair(clips[:, 0], ids[:3])
    pair.to(CUDA)
    for packed in (False, True):
        if packed:
            pair.pack(dtype, graphs=True)
        kind = dtype if packed else torch.float32
        for _ in range(3):
            assert close(pair.encode_text(ids.to(CUDA)), expected[0], kind)
            assert close(pair.encode_text(gpu.without_padding(ids[1:2]).to(CUDA)), expected[0][1:2], kind)
            assert close(pair.encode_video(clips.to(CUDA), normalize=True), expected[1], kind)
        found = pair(clips[:, 0].to(CUDA), ids[:3].to(CUDA))
        assert all(close(one, other, kind) for one, other in zip(found[:2], similar[:2], strict=True))
        assert pair.encode_text(ids[:0].to(CUDA)).shape == (0, 24)
        assert pair.encode_image(clips[:0, 0].to(CUDA)).shape == found[0][:0].shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_replay_is_the_eager_pass(dtype: torch.dtype) -> None:
    tower = tiny.vision(use_cls_token=True).to(CUDA).pack(dtype, graphs=True)
    inputs = [tiny.images(1, seed=seed).to(CUDA) for seed in (1, 2)]
    with torch.cuda.device(CUDA):
        eager = [tower._embeddings(images, 3, False) for images in inputs]
    for images in inputs:  # the second call captures
        tower(images)
    assert len(graphed(tower)) == 1
    replayed = [tower(images) for images in inputs]
    kept = replayed[0].clone()
    tower(inputs[1])
    assert torch.equal(replayed[0], kept), "a later replay wrote into an earlier result"
    for one, other in zip(replayed, eager, strict=True):
        assert relative_error(one, other) < (1e-6 if dtype == torch.float32 else 1e-2)
    assert relative_error(replayed[0], replayed[1]) > 3e-2, "both inputs gave the same result"


@torch.no_grad()
def test_weights_changed_in_place_are_seen_and_moved_ones_drop_the_graphs() -> None:
    tower, images = tiny.vision().to(CUDA).pack(graphs=True), tiny.images(1).to(CUDA)
    for _ in range(3):
        before = tower(images)
    tower.proj.mul_(2)
    assert relative_error(tower(images), 2 * before) < 1e-6
    other = tiny.vision(seed=1)
    tower.load_state_dict(other.state_dict())
    assert tower._packed is None
    assert relative_error(tower.pack(graphs=True)(images).cpu(), other(images.cpu())) < EXACT
    for change in (lambda t: t.train(), lambda t: t.double(), lambda t: t.cpu()):
        change(tower.float().to(CUDA).eval().pack(graphs=True))
        assert tower._packed is None


@torch.no_grad()
def test_graphs_do_not_outlive_their_limit() -> None:
    tower = tiny.vision().to(CUDA).pack(graphs=True)
    inputs = [tiny.images(batch, seed=batch).to(CUDA) for batch in range(1, 6)]
    expected = [tower(images) for images in inputs]
    graphed(tower)._kept = 2
    for _ in range(2):
        for images, one in zip(inputs, expected, strict=True):
            assert relative_error(tower(images), one) < 1e-5
    assert len(graphed(tower)) == 2


@torch.no_grad()
def test_no_graphs_unless_asked_for() -> None:
    pair, images = tiny.clip(use_cls_token=True).to(CUDA).pack(torch.bfloat16), tiny.images(1).to(CUDA)
    assert isinstance(pair.visual._packed, gpu.GpuTower)
    assert isinstance(pair._packed_text, gpu.GpuText)
    assert pair.visual._packed.graphs is None
    assert pair._packed_text.graphs is None
    assert relative_error(pair.encode_image(images), pair.encode_image(images)) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_graphs_outlive_the_workspaces_of_cublas(dtype: torch.dtype) -> None:
    tower, inputs = tiny.vision().to(CUDA).pack(dtype, graphs=True), [tiny.images(n, seed=n).to(CUDA) for n in (1, 2)]
    expected = [tower(images) for images in inputs]
    for images in inputs:
        tower(images)
    assert len(graphed(tower)) == 2
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()  # what a graph needs and nobody owns is unmapped now
    taken = torch.zeros(64, 1 << 20, dtype=torch.uint8, device=CUDA)  # or belongs to somebody else
    for _ in range(3):
        for images, one in zip(inputs, expected, strict=True):
            assert relative_error(tower(images), one) < (1e-5 if dtype == torch.float32 else 1e-2)
    assert not taken.any(), "a replay wrote into memory that is not its own"


@pytest.mark.filterwarnings("ignore")  # of Inductor, about this machine
@torch.no_grad()
def test_graphs_stand_beside_those_of_torch_compile() -> None:
    tower, images = tiny.vision().to(CUDA).pack(torch.bfloat16, graphs=True), tiny.images(1).to(CUDA)
    plain = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64)).to(CUDA).bfloat16()
    other, x = torch.compile(plain, mode="reduce-overhead", dynamic=False), torch.randn(32, 64, device=CUDA).bfloat16()
    eager, expected = tower(images), plain(x)
    tower(images)
    for _ in range(4):  # compiled, recorded, replayed
        assert relative_error(other(x), expected) < 2e-2
        assert relative_error(tower(images), eager) < 1e-2
    assert len(graphed(tower)) == 1


@torch.no_grad()
def test_large_batches_run_launch_by_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, images = tiny.vision().to(CUDA).pack(graphs=True), tiny.images(2).to(CUDA)
    monkeypatch.setattr(gpu, "MAX_FLOP", 1.0)
    for _ in range(3):
        tower(images)
    assert len(graphed(tower)) == 0


@torch.no_grad()
def test_threads_with_streams_of_their_own_share_graphs() -> None:
    tower = tiny.vision(use_cls_token=True).to(CUDA).pack(torch.bfloat16, graphs=True)
    inputs = [tiny.images(1, seed=seed).to(CUDA) for seed in range(4)]
    expected = [tower(images) for images in inputs]
    worst: list[float] = []

    def work(number: int) -> None:
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            found = [tower(inputs[number]) for _ in range(100)]
            torch.cuda.current_stream().synchronize()
            worst.append(max(relative_error(one, expected[number]) for one in found))

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 4
    assert max(worst) < 1e-2
    assert len(graphed(tower)) == 1


@pytest.mark.filterwarnings("ignore")  # of Dynamo, about what it does not trace
def test_gradients_autocast_and_compilation_go_without_graphs() -> None:
    tower, images = tiny.vision().to(CUDA).pack(graphs=True), tiny.images(2).to(CUDA)
    for _ in range(3):
        tower(images).sum().backward()
    assert tower.conv1.weight.grad is not None
    with torch.no_grad():
        expected = tower(images)
        with torch.autocast("cuda", torch.bfloat16):
            for _ in range(3):
                assert torch.cosine_similarity(tower(images).float(), expected).min() > 0.999
        graphed(tower).clear()
        compiled = torch.compile(tower, backend="eager")
        for _ in range(3):
            assert relative_error(compiled(images), expected) < EXACT


def test_a_capture_that_fails_leaves_the_pass_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, images = tiny.vision().to(CUDA).pack(graphs=True), tiny.images(2).to(CUDA)
    add_norm = fused.add_norm

    def waits(x: torch.Tensor, *rest: object) -> object:
        x.sum().item()  # the host may not wait in a capture
        return add_norm(x, *rest)

    monkeypatch.setattr(fused, "add_norm", waits)
    with torch.no_grad():
        expected = tower(images)
        with pytest.warns(UserWarning, match="no CUDA graph of _embeddings"):
            assert relative_error(tower(images), expected) < 1e-6
        assert relative_error(tower(images), expected) < 1e-6
        assert len(graphed(tower)) == 0
        monkeypatch.setattr(fused, "add_norm", add_norm)
        assert torch.rand(2, device=CUDA).isfinite().all(), "random numbers outlive a capture that failed"
        for _ in range(3):  # the device is sound, and other shapes are captured
            assert relative_error(tower(images[:1]), expected[:1]) < 1e-5
        assert len(graphed(tower)) == 1
