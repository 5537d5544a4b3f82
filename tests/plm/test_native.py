"""The published layout, written here from a model of transformers and read back: the same logits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from midsight.checkpoints import from_perception_lm
from midsight.errors import CheckpointError
from midsight.plm import PLM, native
from tests.plm import peers

NAMES = {  # transformers, published: written down apart from the package's own table
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def neighbours(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of which i and i + D / 2 of a head turn together, put side by side."""
    size = len(weight) // heads
    order = [head * size + i + half * (size // 2) for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return weight[order]


def published(peer: Any) -> dict[str, torch.Tensor]:
    """The peer's weights under the published names."""
    state = peer.state_dict()
    found = {f"vision_model.{key}": value for key, value in from_perception_lm(state).items()}
    for theirs, ours in (("linear_1", "0"), ("linear_2", "2")):
        for kind in ("weight", "bias"):
            name = f"model.multi_modal_projector.{theirs}.{kind}"
            found[f"vision_projector.projector.{ours}.{kind}"] = state[name]
    found["tok_embeddings.weight"] = state["model.language_model.embed_tokens.weight"]
    found["norm.weight"] = state["model.language_model.norm.weight"]
    if not peer.config.tie_word_embeddings:
        found["output.weight"] = state["lm_head.weight"]
    for layer in range(peers.LAYERS):
        for theirs, ours in NAMES.items():
            weight = state[f"model.language_model.layers.{layer}.{theirs}.weight"]
            heads = {"self_attn.q_proj": peers.HEADS, "self_attn.k_proj": peers.KV_HEADS}.get(theirs)
            found[f"layers.{layer}.{ours}.weight"] = neighbours(weight, heads) if heads else weight
    return found


def params(vocabulary: int, class_token: bool, tied: bool, scaled: bool) -> dict[str, Any]:
    model: dict[str, Any] = dict(
        dim=peers.DIM, n_layers=peers.LAYERS, n_heads=peers.HEADS, n_kv_heads=peers.KV_HEADS, vocab_size=vocabulary,
        ffn_dim_multiplier=0.625, multiple_of=16, norm_eps=1e-5, rope_theta=10_000.0, weight_tying=tied,
        max_seqlen=512, pooling_ratio=2,
        vision_model=dict(image_size=peers.SIDE, patch_size=peers.PATCH, width=peers.WIDTH, layers=peers.LAYERS,
                          heads=peers.HEADS, mlp_ratio=3.0, use_cls_token=class_token, use_abs_posemb=True,
                          use_ln_post=False, pool_type="none", ls_init_value=0.1, drop_path=0.1),
    )  # fmt: skip
    if scaled:
        model |= dict(rope_scale_factor=8, high_freq_factor=4, old_context_len=32)
    return dict(model=model, data=dict(tokenizer_path="/elsewhere/tokenizer.model", max_num_tiles=4))


class Made:
    def __init__(self, folder: Path, class_token: bool, tied: bool, scaled: bool) -> None:
        vocabulary = peers.write_tokenizer(folder / "tokenizer.model") + 256
        self.folder, self.image = folder, vocabulary - 254
        self.peer = peers.perception_lm(class_token, tied, scaled=scaled)
        self.peer.resize_token_embeddings(vocabulary)
        self.peer.config.image_token_id = self.image
        peers.redrawn(self.peer, seed=3)
        self.weights = published(self.peer)
        self.params = params(vocabulary, class_token, tied, scaled)
        peers.write_json(folder / "params.json", self.params)
        torch.save(self.weights, folder / "consolidated.pth")

    def prompt(self) -> dict[str, torch.Tensor]:
        given = peers.prompt(4, images=1, tiles=3)
        return {**given, "input_ids": torch.where(given["input_ids"] == peers.IMAGE, self.image, given["input_ids"])}


@pytest.fixture(params=[(True, True, True), (False, False, False)], ids=["as 1B", "as 8B"], scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("native"), *request.param)


@torch.inference_mode()
def test_logits_are_those_of_the_model_it_was_written_from(made: Made) -> None:
    given = made.prompt()
    expected = made.peer(**given, attention_mask=torch.ones_like(given["input_ids"])).logits
    assert expected.std() > 0.5
    model = PLM.from_pretrained(made.folder)
    torch.testing.assert_close(model(**given), expected, atol=2e-4, rtol=0)
    assert model.config.max_tiles == 4
    assert model.config.stop_token_ids == (self_end := made.image - 1, self_end + 8)


@torch.inference_mode()
def test_it_goes_over_into_the_layout_of_transformers(made: Made, tmp_path: Path) -> None:
    from transformers import PerceptionLMForConditionalGeneration

    PLM.from_pretrained(made.folder).save_pretrained(tmp_path / "new")
    theirs = PerceptionLMForConditionalGeneration.from_pretrained(tmp_path / "new").eval()
    given = made.prompt()
    options = dict(attention_mask=torch.ones_like(given["input_ids"]))
    torch.testing.assert_close(theirs(**given, **options).logits, made.peer(**given, **options).logits)


@torch.inference_mode()
def test_parts_and_wrappers(made: Made, tmp_path: Path) -> None:
    expected = PLM.from_pretrained(made.folder)(**made.prompt())
    for name, files in {
        "wrapped": {"consolidated.pth": {"model": made.weights}},
        "parts": {f"consolidated.0{i}.pth": dict(list(made.weights.items())[i::2]) for i in (0, 1)},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        peers.write_tokenizer(folder / "tokenizer.model")
        peers.write_json(folder / "params.json", made.params)
        for file, value in files.items():
            torch.save(value, folder / file)
        assert torch.equal(PLM.from_pretrained(folder)(**made.prompt()), expected)


@pytest.mark.parametrize(
    ("dim", "multiplier", "multiple", "expected"),
    [(2048, 1.5, 256, 8192), (3072, 1.0, 256, 8192), (4096, 1.3, 1024, 14336), (64, None, 16, 176)],
)
def test_width_of_the_gated_layer(dim: int, multiplier: float | None, multiple: int, expected: int) -> None:
    assert native.feed_forward_size(dim, multiplier, multiple) == expected  # those of 1B, 3B and 8B


class TestBadFolders:
    @pytest.fixture
    def folder(self, made: Made, tmp_path: Path) -> Path:
        peers.write_tokenizer(tmp_path / "tokenizer.model")
        peers.write_json(tmp_path / "params.json", made.params)
        torch.save(made.weights, tmp_path / "consolidated.pth")
        return tmp_path

    def test_no_weights(self, folder: Path) -> None:
        (folder / "consolidated.pth").unlink()
        with pytest.raises(CheckpointError, match="no consolidated.pth"):
            PLM.from_pretrained(folder)

    def test_no_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.model").unlink()
        with pytest.raises(CheckpointError, match="tokenizer.model: there is no such file"):
            PLM.from_pretrained(folder)

    def test_the_tokenizer_of_another_model(self, folder: Path, made: Made) -> None:
        lines = (folder / "tokenizer.model").read_bytes().splitlines()[:-1]
        (folder / "tokenizer.model").write_bytes(b"\n".join(lines))
        with pytest.raises(CheckpointError, match="they belong to different models"):
            PLM.from_pretrained(folder)

    def test_the_same_name_in_two_parts(self, folder: Path, made: Made) -> None:
        (folder / "consolidated.pth").rename(folder / "consolidated.00.pth")
        torch.save({"norm.weight": torch.ones(peers.DIM)}, folder / "consolidated.01.pth")
        with pytest.raises(CheckpointError, match="two tensors.*'norm.weight'"):
            PLM.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda model: model.pop("dim"), "lacks a size of the language model"),
            (lambda model: model.pop("vision_model"), "'vision_model' inside it"),
            (lambda model: model["vision_model"].update(window=7), "'window', which no PE tower has"),
            (lambda model: model.update(rope_scale_factor=32, high_freq_factor=None), "lacks a size|high_freq"),
        ],
    )
    def test_settings_that_cannot_be(self, folder: Path, made: Made, edit: Any, message: str) -> None:
        import copy

        settings = copy.deepcopy(made.params)
        edit(settings["model"])
        peers.write_json(folder / "params.json", settings)
        with pytest.raises(CheckpointError, match=message):
            PLM.from_pretrained(folder)

    def test_code_in_a_pickle_is_not_run(self, folder: Path) -> None:
        class Canary:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (folder / "ran",)

        torch.save({"norm.weight": Canary()}, folder / "consolidated.pth")
        with pytest.raises(CheckpointError, match="could run code"):
            PLM.from_pretrained(folder)
        assert not (folder / "ran").exists()
