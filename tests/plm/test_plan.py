"""Memory told beforehand, beside what a small model holds when it runs."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from midsight.configs import PEConfig
from midsight.errors import InputError
from midsight.plm import PLM, PLMConfig, lean
from midsight.plm.folders import read_config
from midsight.plm.model import build_language_model
from midsight.plm.plan import Load, plan, published
from tests import peers
from tests.plm import tiny


class Living(TorchDispatchMode):
    """The most bytes that new tensors hold at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            tensor.untyped_storage()._cdata
            for tensor in args
            if isinstance(tensor, torch.Tensor) and not tensor.is_mkldnn
        }
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and not tensor.is_mkldnn:
                self._see(tensor.untyped_storage(), before)
        return out

    def _see(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known or key in before:
            return
        self.now += size
        self.most = max(self.most, self.now)
        self.known[key] = weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        self.known.pop(key, None)


def middling(dtype: torch.dtype) -> PLM:
    """Large enough for tensors, not calls, to take the memory."""
    vision = PEConfig(
        patch_size=14, width=192, layers=2, heads=3, mlp_ratio=4.0, output_dim=None, ls_init_value=0.1, image_size=224,
        use_cls_token=True, pool_type="none", use_ln_post=False,
    )  # fmt: skip
    text = dict(
        tiny.LANGUAGE, vocab_size=2000, hidden_size=256, intermediate_size=1024, num_attention_heads=8, head_dim=32,
        max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    model = peers.randomize(PLM(PLMConfig(vision, text, image_token_id=1999), build_language_model(text)))
    prepared: PLM = model.to(dtype).prepare()
    return prepared


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_passes_take_what_was_told(dtype: torch.dtype) -> None:
    model = middling(dtype)
    load = Load(tiles=9, new_tokens=20, text_tokens=200, threads=torch.get_num_threads())
    told = plan(model.config, load, dtype)
    pixels = torch.rand(9, 3, 224, 224)
    with Living() as tower:
        tokens = model.encode_media(pixels)
    assert 0.75 < told.tower_pass / (tower.most + pixels.nbytes) < 1.4
    embeds = torch.cat((model.token_embedding(torch.ones(1, 200, dtype=torch.long)), tokens[None].to(dtype)), 1)
    assert told.prompt_tokens == embeds.shape[1]
    cache = lean.KVCache()
    with Living() as prompt:
        lean.step(model.language_model, embeds, cache)
    cached = cache.nbytes
    assert 0.75 < told.prompt_pass / (prompt.most - cached) < 1.4
    for _ in range(20):
        lean.step(model.language_model, embeds[:, :1], cache)
    assert told.cache == cache.nbytes


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_exact(tmp_path: Path, tied: bool) -> None:
    """Read from the configuration of a folder whose weights are gone."""
    model = tiny.saved(tmp_path / "plm", shape=tiny.Shape(tied=tied))
    for file in (tmp_path / "plm").glob("*.safetensors"):
        file.unlink()
    told = plan(read_config(tmp_path / "plm"))
    tower = [*model.vision_model.parameters(), *model.vision_projector.parameters()]
    assert told.tower == sum(parameter.nbytes for parameter in tower)
    assert told.language_model == sum(parameter.nbytes for parameter in model.language_model.parameters())
    packed = model.vision_model._packed
    blocks = [
        linear.weight for block in packed.blocks for linear in (block.qkv, block.out_proj, block.c_fc, block.c_proj)
    ]
    assert told.packed_tower == 4 * sum(weight.numel() for weight in [*blocks, packed.conv1.weight])
    half = plan(read_config(tmp_path / "plm"), dtype=torch.bfloat16)
    assert (half.tower * 2, half.language_model * 2, half.cache * 2) == (told.tower, told.language_model, told.cache)


def test_quantised_weights(tmp_path: Path) -> None:
    config = middling(torch.float32).config
    model = middling(torch.bfloat16)
    from midsight.plm.quantized import quantize_layers

    for kind in ("int8", "int4"):
        told = plan(config, quantize=kind)  # type: ignore[arg-type]
        other = middling(torch.bfloat16)
        quantize_layers(other.language_model, kind)  # type: ignore[arg-type]
        held = sum(tensor.nbytes for tensor in {*other.language_model.parameters(), *other.language_model.buffers()})
        assert told.language_model == pytest.approx(held, rel=0.01)
        assert told.language_model < plan(model.config, dtype=torch.bfloat16).language_model


def test_published_layouts_are_read_too(tmp_path: Path) -> None:
    tiny.published(tmp_path)
    (tmp_path / "consolidated.pth").unlink()
    assert read_config(tmp_path).text["hidden_size"] == 64


@pytest.mark.parametrize(
    ("name", "tower", "language_model", "per_token"),
    [  # parameters in millions; bytes of the cache for a token in bfloat16: layers x 2 x heads of keys x dim x 2
        ("1B", (290, 320), (1235, 1237), 16 * 2 * 8 * 64 * 2),
        ("3B", (290, 330), (3211, 3214), 28 * 2 * 8 * 128 * 2),
        ("8B", (1750, 1900), (8029, 8032), 32 * 2 * 8 * 128 * 2),
    ],
)
def test_published_models_have_their_sizes(
    name: str, tower: tuple[int, int], language_model: tuple[int, int], per_token: int
) -> None:
    """Llama 3.2 1B and 3B and 3.1 8B are known to have 1,236, 3,213 and 8,030 million parameters."""
    told = plan(published(name), Load(tiles=37, text_tokens=512), torch.bfloat16)
    assert tower[0] < told.tower / 2e6 < tower[1]
    assert language_model[0] < told.language_model / 2e6 < language_model[1]
    assert told.prompt_tokens == 37 * 256 + 512
    assert told.cache == -(-(37 * 256 + 512 + 256) // 256) * 256 * per_token
    assert told.fits
    assert not plan(published(name), Load(tiles=46)).fits


def test_loads_and_names_that_cannot_be() -> None:
    with pytest.raises(InputError, match="tiles must be at least 0"):
        Load(tiles=-1)
    with pytest.raises(InputError, match="batch must be at least 1"):
        Load(batch=0)
    with pytest.raises(InputError, match="there are 1B, 3B, 8B"):
        published("2B")
