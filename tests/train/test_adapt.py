"""What is trained and what stays: adapters, locked towers, the trunk of an embedded model."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from midsight import pe
from midsight.errors import ConfigError
from midsight.train import adapt, optim, state
from midsight.train.config import FinetuneConfig, TrainConfig
from midsight.train.loop import Trainer
from midsight.train.pair import Pair
from tests.train import memory, small


def prepared(model: pe.CLIP, start: str = "", **settings: Any) -> pe.CLIP:
    adapt.prepare(model, TrainConfig(finetune=FinetuneConfig(**settings), model=memory.tiny().model))
    return model


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def with_drawn_adapters(**settings: Any) -> tuple[pe.CLIP, FinetuneConfig]:
    """A pair whose adapters, which begin at zero, do something."""
    chosen = FinetuneConfig(mode="lora", **settings)
    model = prepared(small.pair(), mode="lora", **settings)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model, chosen


def features(model: pe.CLIP) -> torch.Tensor:
    images, texts = small.batch(3)
    with torch.no_grad():
        return torch.cat((model.encode_image(images), model.encode_text(texts)))


@pytest.mark.parametrize("targets", [("out_proj", "c_fc", "c_proj"), ("c_fc",)])
def test_merged_adapters_are_an_ordinary_model(targets: tuple[str, ...]) -> None:
    model, chosen = with_drawn_adapters(lora_targets=targets, lora_rank=3)
    merged = adapt.merge(model.state_dict(), small.VISION, small.TEXT, chosen)
    plain = small.pair()
    assert merged.keys() == plain.state_dict().keys()
    before = features(plain)
    plain.load_state_dict(merged)
    assert (features(plain) - before).abs().max() > 0.1
    torch.testing.assert_close(features(plain), features(model), rtol=1e-4, atol=1e-4)


def test_adapters_alone_are_trained_and_start_at_the_start() -> None:
    model = small.pair()
    before = features(model)
    prepared(model, mode="lora")
    assert torch.equal(features(model), before)
    names = trained(model)
    assert all(".lora_" in name for name in names)
    assert {name.split(".lora_")[0] for name in names} == {
        *(f"{t}transformer.resblocks.{b}.{m}" for t in ("", "visual.") for b in (0, 1)
          for m in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")),
        *(f"visual.attn_pool.{m}" for m in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj")),
    }  # fmt: skip


@pytest.mark.parametrize("locked", ["image", "text"])
def test_adapters_keep_out_of_a_locked_tower(locked: str) -> None:
    names = trained(prepared(small.pair(), mode="lora", locked=locked))
    assert names
    assert all(name.startswith("visual.") == (locked == "text") for name in names)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_saved_adapters_open_with_peft_and_give_the_saved_model(alpha: float, tmp_path: Path) -> None:
    from peft import PeftModel

    model, chosen = with_drawn_adapters(lora_targets=("out_proj", "c_proj"))
    adapt.save_adapters(tmp_path, model.state_dict(), small.pair(), chosen, alpha)
    start, merged = small.pair(), adapt.merge(model.state_dict(), small.VISION, small.TEXT, chosen)
    saved = small.pair()
    saved.load_state_dict({name: torch.lerp(v, merged[name], alpha) for name, v in start.state_dict().items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft looks for a model card
        opened = PeftModel.from_pretrained(start, str(tmp_path))
    images, texts = small.batch(3)
    with torch.no_grad():
        found = torch.cat((opened.encode_image(images), opened.encode_text(texts)))
    torch.testing.assert_close(found, features(saved), rtol=1e-4, atol=1e-4)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 60_000


@pytest.mark.parametrize(("targets", "message"), [(("in_proj_weight",), "'in_proj_weight'"), ((), "an empty list"),
                                                  (("c_fc", "fc1"), "'fc1'")])  # fmt: skip
def test_targets_that_match_nothing_are_told(targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"{message} matches nothing.*c_fc, c_proj, out_proj"):
        prepared(small.pair(), mode="lora", lora_targets=targets)


@pytest.mark.parametrize("locked", ["image", "text"])
def test_a_locked_tower_has_no_graph_no_gradient_and_no_state(locked: str) -> None:
    pair = Pair(prepared(small.pair(drop_path=0.5), locked=locked), mask=False).train()
    images, texts, _ = pair(*small.batch(4))
    assert images is not None
    assert texts is not None
    assert (images.requires_grad, texts.requires_grad) == ((False, True) if locked == "image" else (True, False))
    if locked == "image":
        assert torch.equal(images, pair(*small.batch(4))[0])  # no branch is dropped
    (images.sum() + texts.sum() + pair.model.logit_scale).backward()
    own = {name for name, _ in pair.named_parameters() if name.startswith("model.visual.") == (locked == "image")}
    own -= {"model.logit_scale"}
    assert set(small.gradients(pair)) == {name for name, _ in pair.named_parameters()} - own
    optimizer = optim.build_optimizer(pair.named_parameters(), memory.tiny().optim, 2, 2)
    kept = {name for name in state.tensors(pair, optimizer) if name.startswith("optimizer.model.")}
    assert kept
    assert not any(name.startswith(tuple(f"optimizer.{frozen}." for frozen in own)) for name in kept)


def test_the_trunk_of_a_start_stays_unless_it_is_asked_for() -> None:
    vision = pe.PEConfig(
        patch_size=32, width=16, layers=1, heads=2, mlp_ratio=2.0, output_dim=16, image_size=32,
        stem="efficientnet_lite2",
    )  # fmt: skip
    for start, trunk, frozen in (("somewhere", False, True), ("somewhere", True, False), ("", False, False)):
        model = pe.CLIP(vision, small.TEXT)
        config = TrainConfig(finetune=FinetuneConfig(trunk=trunk))
        config = TrainConfig(finetune=config.finetune, model=type(config.model)(start=start))
        adapt.prepare(model, config)
        assert frozen == (not any(p.requires_grad for p in model.visual.stem.parameters()))
        assert model.visual.conv1.weight.requires_grad


@pytest.mark.parametrize("change", ["finetune.mode=lora", "finetune.locked=text", "finetune.locked=image"])
def test_what_is_frozen_does_not_move_and_a_resumed_run_ends_in_the_same_weights(change: str, tmp_path: Path) -> None:
    changes = (change, "finetune.lora_lr=0.02", "steps.mask=false", "loss.same_text=true")

    def run(name: str, resume: bool = False, report: Any = None) -> tuple[Trainer, dict[str, torch.Tensor]]:
        trainer = memory.trainer(
            memory.tiny(*changes), tmp_path / name, memory.MemorySource(), memory.alone(), report=report
        )
        begun = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        trainer.run(resume)
        return trainer, begun

    straight, begun = run("straight")

    def stop(record: Any) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("cut", report=stop)  # behind the checkpoint of step 4, at the second resolution
    resumed, _ = run("cut", resume=True)
    ours, theirs = resumed.model.state_dict(), straight.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    moved = {n for n, v in theirs.items() if v.shape == begun[n].shape and not torch.equal(v, begun[n])}
    assert moved == {n for n in trained(straight.model) if n in moved}
    assert len(moved) > 10


def test_only_what_is_named_is_trained() -> None:
    model = prepared(small.pair(), only=("visual.transformer.", "visual.attn_pool.probe"))
    found = trained(model)
    assert "logit_scale" in found
    assert "visual.attn_pool.probe" in found
    others = found - {"logit_scale", "visual.attn_pool.probe"}
    assert others
    assert all(name.startswith("visual.transformer.") for name in others)


def test_a_beginning_that_no_name_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"finetune.only: 'visual.bloks'.*visual.attn_pool"):
        prepared(small.pair(), only=("visual.bloks",))
