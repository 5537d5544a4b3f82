"""The small ablation: budgets as published, arithmetic of its report, runs that are gone on with."""

import io
import json
import math
import multiprocessing
import re
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.ablation import data, measure, plots, report, results, runs
from benchmarks.ablation.__main__ import main
from benchmarks.ablation.data import Record
from benchmarks.ablation.steps import NUMBERS, PUBLISHED, budget, config_of, listed, numbers
from midsight.errors import ConfigError, InputError, TrainingError
from midsight.train.config import resolve, towers

RECIPES = ("core_ablation_l14", "core_ablation_small", "core_ablation_medium")
TINY = (
    "stages=[{image_size=16, samples=32}, {image_size=24, samples=32}, {image_size=32, samples=16}]",
    "data.batch_size=8", "data.micro_batch=8", "model.vision.width=32", "model.vision.layers=2",
    "model.vision.heads=2", "model.vision.attn_pooler_heads=2", "model.text.width=32", "model.text.layers=1",
    "model.text.heads=2", "model.text.context_length=12",
)  # fmt: skip


# Steps ---------------------------------------------------------------------------------------------------------------


def test_the_published_table_is_the_mean_of_its_sets() -> None:
    for step in PUBLISHED:
        assert sum(step.sets) / 6 == pytest.approx(step.average, abs=0.06)


@pytest.mark.parametrize("recipe", RECIPES)
def test_nine_steps_have_the_published_budgets(recipe: str) -> None:
    found = {step: budget(config_of(recipe, step)) for step in NUMBERS}
    unit, batch, sizes = found[2].samples[0], found[1].batch, found[5].sizes
    assert len(sizes) == 4
    assert [cost.batch // batch for cost in found.values()] == [1, 1, 2, 2, 2, 2, 2, 2, 2]
    assert found[1].sizes == sizes[2:3]
    assert found[1].samples == (3 * unit,)
    assert found[2].sizes == found[3].sizes == found[4].sizes == sizes[:3]
    assert found[3].samples == found[4].samples == (2 * unit,) * 3
    for step in (5, 6, 7, 8, 9):
        assert found[step].sizes == sizes
        assert found[step].samples == tuple(unit * part // 2 for part in (5, 4, 2, 1))
    assert max(c.steps for c in found.values()) - min(c.steps for c in found.values()) <= 1
    relative = [cost.flops / found[1].flops for cost in found.values()]
    published = [0.6, 1.2, 1.2, 1.28, 1.28, 1.29, 1.29, 1.35]  # of ViT-L/14, by the same count
    assert relative[1:] == pytest.approx(published, rel=0.1)


def test_the_steps_switch_what_they_say() -> None:
    configs = {step: resolve(config_of("core_ablation_small", step, seed=4)) for step in NUMBERS}
    assert {config.seed for config in configs.values()} == {4}
    assert [config.optim.name for config in configs.values()] == ["adamw"] * 3 + ["lamb"] * 6
    assert [configs[step].optim.lr for step in (3, 4)] == [5e-4, 2e-3]
    vision = {step: towers(config, 72)[0] for step, config in configs.items()}
    assert [tower.use_rope2d for tower in vision.values()] == [False] * 5 + [True] * 4
    assert [tower.pool_type for tower in vision.values()] == ["tok"] * 6 + ["attn"] * 3
    assert all(tower.use_cls_token and tower.use_abs_posemb for tower in vision.values())
    assert [config.steps.augment for config in configs.values()] == [False] * 7 + [True] * 2
    assert [config.steps.mask for config in configs.values()] == [False] * 8 + [True]
    with pytest.raises(ConfigError, match="step 10: there are steps 1 to 9"):
        config_of("core_ablation_small", 10)


def test_lists_of_numbers() -> None:
    assert numbers("1-3,7", NUMBERS, "--steps") == (1, 2, 3, 7)
    assert numbers(" 4,2-4 ", NUMBERS, "--steps") == (2, 3, 4)
    assert numbers("0,12", None, "--seeds") == (0, 12)
    for text in ("1-3,7", "0", "0-1,3-4,9"):
        assert listed(numbers(text, None, "--seeds")) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-99999999999", "there is no|more than 1000 numbers"),
        ("0-3", "there is no 0; expected 1 to 9"),
        ("8-10", "there is no 10"),
        ("5-2", "runs backwards"),
        ("", "expected numbers such as"),
        ("a", "expected numbers such as"),
        ("-1", "expected numbers such as"),
    ],
)
def test_wrong_lists_are_told(text: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        numbers(text, NUMBERS, "--steps")
    assert main([f"--steps={text}", f"--out={tmp_path / 'out'}"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


# Data ----------------------------------------------------------------------------------------------------------------


def emoji(concepts: int, styles: int = 4) -> list[tuple[Record, bytes]]:
    """Drawings of one colour a concept, OpenMoji's among them, and clip art."""
    rows = []
    for concept in range(concepts):
        kinds = [f"emoji/style{style}" for style in range(styles)] + ["open-moji/x", "clip-art/x"]
        for kind in kinds:
            dice = np.random.default_rng(concept)
            file = io.BytesIO()
            Image.new("RGB", (data.SIDE, data.SIDE), tuple(int(v) for v in dice.integers(0, 256, 3))).save(file, "WEBP")
            group = "" if kind.startswith("clip") else f"group {concept % 3}"
            rows.append(
                (Record(f"{kind}-{concept}", "", f"thing {concept}", f"thing {concept}", group), file.getvalue())
            )
    return rows


def test_nothing_of_what_is_held_out_is_trained() -> None:
    rows = [record for record, _ in data.split(emoji(300))]
    by_split: dict[str, list[Record]] = {}
    for record in rows:
        by_split.setdefault(record.split, []).append(record)
    names = {split: {r.name for r in found if r.group} for split, found in by_split.items()}
    assert not names["train"] & (names["new"] | names["openmoji-new"])
    assert names["val"] < names["train"]
    assert names["openmoji"] == names["train"]
    assert names["openmoji-new"] == names["new"]
    assert not {r.name for r in by_split["pairs"]} & {r.name for r in by_split["train"] if not r.group}
    assert not any(r.key.startswith("open-moji") for split in ("train", "val", "new") for r in by_split[split])
    assert {r.key.partition("/")[0] for r in by_split["train"]} == {"emoji", "clip-art"}
    assert len(by_split["new"]) == pytest.approx(0.2 * 1200, rel=0.35)
    assert len(by_split["val"]) == pytest.approx(0.2 * 0.8 * 300, rel=0.4)
    assert [r for r, _ in data.split(emoji(300))] == rows


def test_the_file_keeps_pixels_and_records(tmp_path: Path) -> None:
    rows = data.split(emoji(5))
    data.write(tmp_path / "d.npz", rows)
    found = data.read(tmp_path / "d.npz")
    assert found.records == tuple(record for record, _ in rows)
    assert found.pixels.shape == (30, 3, data.SIDE, data.SIDE)
    expected = np.random.default_rng(3).integers(0, 256, 3)
    chosen = [index for index, record in enumerate(found.records) if record.name == "thing 3"]
    assert np.abs(found.pixels[chosen].float().mean((0, 2, 3)).numpy() - expected).max() < 4
    (tmp_path / "junk.npz").write_bytes(b"junk")
    for path in ("junk.npz", "none.npz"):
        with pytest.raises(InputError, match=r"not the ablation's pictures.*--build"):
            data.read(tmp_path / path)


# Measuring -----------------------------------------------------------------------------------------------------------


def test_neighbours_vote_by_cosine_about_the_mean() -> None:
    bank = torch.tensor([[9.0, 1.0], [9.0, 1.1], [9.0, -1.0], [9.0, -1.1]])
    labels = torch.tensor([0, 0, 1, 1])
    asked = torch.tensor([[9.0, 0.5], [9.0, -0.5], [9.0, -2.0]])
    assert measure.knn(bank, labels, asked, torch.tensor([0, 1, 1]), k=2) == 1
    assert measure.knn(bank, labels, asked, torch.tensor([0, 1, 0]), k=2) == pytest.approx(2 / 3)


def test_guessing_is_counted_exactly() -> None:
    right = torch.zeros(2, 6, dtype=torch.bool)
    right[0, 0] = True
    right[1, :2] = True
    assert measure.guessed(right, 1) == pytest.approx((1 / 6 + 2 / 6) / 2)
    assert measure.guessed(right, 2) == pytest.approx((2 / 6 + (1 - 4 / 6 * 3 / 5)) / 2)
    assert measure.guessed(right, 6) == 1


# Report --------------------------------------------------------------------------------------------------------------


def run(step: int, seed: int, value: float, layers: tuple[float, ...] = (0.1, 0.3, 0.2)) -> dict[str, Any]:
    """A made-up run whose columns are all the same."""
    columns = {name: {"value": value, "chance": 0.01, "count": 200} for name in measure.COLUMNS}
    cost = json.loads(json.dumps(asdict(budget(config_of("core_ablation_small", step)))))
    cost_log = [
        {"image_size": size, "loss": loss}
        for size in cost["sizes"]
        for loss in (9.0, step + size / 1000)  # the last one of a stage counts
    ]
    more = {
        "log": cost_log,
        "seconds": 10.0 + step,
        "device": "cpu",
        "torch": "2",
        "knn": {"chance": 0.05, "count": 100},
    }
    return {
        "step": step,
        "seed": seed,
        "columns": columns,
        "budget": cost,
        "layers": list(layers),
        "embedding": 0.2,
    } | more


def test_changes_are_paired_by_seed() -> None:
    values = {(1, 0): 0.20, (1, 1): 0.30, (1, 2): 0.40, (2, 0): 0.21, (2, 1): 0.32, (2, 2): 0.43, (2, 3): 0.9}
    found = results.Results(run(step, seed, value) for (step, seed), value in values.items())
    change = found.change(2)
    assert change is not None
    assert change.seeds == 3
    assert change.value == pytest.approx(0.02)
    assert change.half == pytest.approx(4.303 * 0.01 / math.sqrt(3))  # deviation of 0.01, 0.02 and 0.03 is 0.01
    assert not change.sure
    assert found.average(1).half == pytest.approx(4.303 * 0.1 / math.sqrt(3))
    assert found.change(1) is None
    assert change.text(sign=True) == "+2.0 ± 2.5"
    assert results.mean([0.5]).text() == "50.0"
    assert results.mean([0.5, 0.25]).text() == "37.5 (50.0, 25.0)"  # two seeds are shown one by one
    assert results.mean([0.5, 0.25]).point() == plots.Point(37.5, each=(50.0, 25.0))


def test_pooled_noise_is_what_step_and_seed_leave() -> None:
    dice = np.random.default_rng(0)
    steps, seeds = dice.normal(0.5, 0.1, 9), dice.normal(0, 0.1, 4)
    values = steps[:, None] + seeds + dice.normal(0, 0.01, (9, 4))
    found = results.Results(run(step, seed, values[step - 1, seed]) for step in NUMBERS for seed in range(4))
    design = np.zeros((36, 13))  # least squares on step and seed, the long way
    for row, (step, seed) in enumerate(np.ndindex(9, 4)):
        design[row, step] = design[row, 9 + seed] = 1
    left = values.reshape(-1) - design @ np.linalg.lstsq(design, values.reshape(-1), rcond=None)[0]
    noise = found.noise()
    assert noise is not None
    assert noise == (pytest.approx(math.sqrt((left**2).sum() / 24)), 24)
    pooled = found.pooled(5)
    assert pooled is not None
    assert pooled.value == pytest.approx((values[4] - values[3]).mean())
    assert pooled.half == pytest.approx(results.student(24) * noise[0] / math.sqrt(2))
    assert results.Results([run(1, 0, 0.2), run(2, 0, 0.3)]).noise() is None
    alone = results.Results([run(1, 0, 0.2), run(1, 1, 0.3), run(2, 0, 0.3)]).pooled(2)  # one seed has both steps
    assert alone is not None
    assert alone.half is None


def test_students_distribution() -> None:
    from scipy.stats import t

    for freedom in (1, 2, 5, 10, 11, 15, 40):
        assert results.student(freedom) == pytest.approx(t.ppf(0.975, freedom), abs=1e-3)


def test_verdicts() -> None:
    assert report.verdict(results.Mean(0.02, 0.01), 1.1) == "as published"
    assert report.verdict(results.Mean(-0.02, 0.01), 1.1) == "**the other way**"
    assert report.verdict(results.Mean(-0.02, 0.01), -0.2) == "as published"
    assert report.verdict(results.Mean(0.02, 0.03), 1.1) == "not told apart from none"
    assert report.verdict(results.Mean(0.02, None), 1.1) == "not told apart from none"


def test_the_best_layer_is_chosen_on_other_seeds() -> None:
    layers = [(0.1, 0.5, 0.3), (0.1, 0.4, 0.3), (0.6, 0.2, 0.3)]
    found = results.Results(run(1, seed, 0.2, layer) for seed, layer in enumerate(layers))
    assert found.best_layer(1) == 1  # means 0.27, 0.37 and 0.3
    gain = found.gain(1)  # others say 0 (0.35 against 0.3), 0 (0.35 against 0.35, the first) and 1
    assert gain.value == pytest.approx(((0.1 - 0.3) + (0.1 - 0.3) + (0.2 - 0.3)) / 3)


def test_the_report_stands_beside_the_published_table(tmp_path: Path) -> None:
    lines = [run(step, seed, 0.2 + 0.01 * step + 0.001 * seed * step) for step in NUMBERS for seed in range(3)]
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "note.md").write_text("On a busy machine.\n")
    text = report.write(tmp_path, tmp_path, tmp_path, "core_ablation_small").read_text()
    command = "python -m benchmarks.ablation --recipe core_ablation_small --steps 1-9 --seeds 0-2 --device cpu"
    assert f"`{command}`. On a busy machine." in text
    from benchmarks.report import read_table

    rows = read_table(text)
    steps = [row for row in rows if "Published change" in row]
    assert [row["#"] for row in steps] == [str(number) for number in NUMBERS]
    assert (steps[1]["Published change"], steps[1]["Direction"]) == ("-0.2", "**the other way**")
    assert (steps[4]["Published change"], steps[4]["Our change"]) == ("+1.4", "+1.1 ± 0.2")
    assert steps[4]["Direction"] == "as published"
    assert "by the pooled 95 % interval: as published: step 3, 4, 5, 6, 7, 8, 9; the other way: step 2. It" in text
    assert "leaves out zero at step 2, 3, 4, 5, 6, 7, 8, 9. With 3 seeds that factor of Student's is 4.3." in text
    assert "7 of 8 changes have the published sign. All seeds agree with it at step 3, 4, 5, 6, 7, 8, 9, all" in text
    assert "From step 1 to step 9: +8.8 ± 2.0 points, published +5.6." in text
    assert "takes 62 % of the FLOPs and 109 % of the time of one resolution (by seed 109 %, 109 %, 109 %), at a" in text
    assert "not the last one at step 1, 2, 3, 4, 5, 6, 7, 8, 9; the gain is clear of zero at step 1, 2" in text
    assert [row["Which"] for row in rows if "Which" in row] == ["layer 2 of 3 (layer_idx 1)"] * 9
    costs = [row for row in rows if "Optimiser steps" in row]
    assert {row["Optimiser steps"] for row in costs} == {"768"}
    assert costs[1]["The same of ViT-L/14"] == "0.60"
    losses = [row for row in rows if "112 px" in row]
    assert (losses[0]["72 px"], losses[0]["112 px"]) == ("1.07", "-")
    assert (losses[8]["32 px"], losses[8]["112 px"]) == ("9.03", "9.11")
    assert {row["Optimiser steps of the last stage"] for row in losses[4:]} == {"64"}
    for name in ("steps", "layers", "progressive"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 50
        assert f"({name}.png)" in text
    with pytest.raises(ConfigError, match=r"step 1 was not run with recipe 'core_ablation_medium': samples.*--recipe"):
        report.write(tmp_path, tmp_path, tmp_path, "core_ablation_medium")


def test_the_kept_report_is_that_of_the_kept_runs(tmp_path: Path) -> None:
    places = [f"--report-to={tmp_path / 'benchmarks'}", f"--plots-to={tmp_path / 'docs' / 'ablation'}"]
    for folder in ("benchmarks", "docs/ablation"):
        (tmp_path / folder).mkdir(parents=True)
    assert main(["--recipe=core_ablation_medium", "--report", *places]) == 0
    root = Path(report.__file__).parents[2]
    kept = (root / "benchmarks" / "ABLATION.md").read_text()
    assert (tmp_path / "benchmarks" / "ABLATION.md").read_text() == kept, "run: the same with --report"
    for plot in (tmp_path / "docs" / "ablation").iterdir():
        with Image.open(plot) as new, Image.open(root / "docs" / "ablation" / plot.name) as old:
            assert new.size == old.size
        assert f"(../docs/ablation/{plot.name})" in kept


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    other = run(1, 1, 0.2)
    other["budget"]["batch"] = 3
    with pytest.raises(InputError, match="step 1: runs of different budgets"):
        results.Results([run(1, 0, 0.2), other])
    with pytest.raises(InputError, match="no finished runs"):
        report.write(tmp_path, tmp_path, tmp_path / "none", "core_ablation_small")


def test_ticks_are_round_and_few() -> None:
    assert plots.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert plots.ticks(-1.3, 3.2) == [-1, 0, 1, 2, 3]
    for low, high in ((0.013, 0.019), (-470, 12), (33.1, 33.4)):
        found = plots.ticks(low, high)
        assert 2 <= len(found) <= 7
        assert low <= found[0] < found[-1] <= high


# Runs ----------------------------------------------------------------------------------------------------------------


def test_kept_runs_can_be_gone_on_with() -> None:
    folder = Path(report.__file__).parent / "core_ablation_medium"
    options = runs.Options(Path("d.npz"), folder, "core_ablation_medium")
    configs = {(seed, step): runs.configure(options, step, seed) for seed in (0, 1) for step in NUMBERS}
    assert runs.finished(runs.Journal(folder / runs.RUNS), configs) == set(configs)


def test_runs_outlive_new_settings_but_no_other_ones() -> None:
    new, defaults = {"optim": {"lr": 1, "warm": 3}, "stages": [1]}, {"optim": {"lr": 2, "warm": 3}, "stages": []}
    assert runs.differences({"optim": {"lr": 1}, "stages": [1]}, new, defaults) == []
    assert runs.differences({"optim": {"lr": 2}, "stages": [1]}, new, defaults) == ["optim.lr 2, now 1"]
    assert runs.differences({"optim": {"warm": 3}, "stages": [1]}, new, defaults) == ["optim.lr 2, now 1"]
    assert runs.differences({"optim": {"lr": 1}, "stages": [2], "gone": 1}, new, defaults) == [
        "gone 1, now None", "stages [2], now [1]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jobs=-1"], "--jobs -1: expected how many runs at once"),
        (["--seconds=nan"], "--seconds nan: expected a number"),
        (["--seconds=-1"], "--seconds -1: expected a number"),
        (["--data={tmp}/none.npz"], "make them with --build"),
        (["--out={tmp}/d.npz/out"], "d.npz/out: could not be made"),
        (["--recipe=core_ablation_smal"], "core_ablation_smal"),
    ],
)
def test_what_cannot_be_run_is_told_before_a_worker_starts(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data.write(tmp_path / "d.npz", data.split(emoji(1)))
    first = [f"--data={tmp_path / 'd.npz'}", f"--out={tmp_path / 'out'}"]
    assert main([*first, *(flag.format(tmp=tmp_path) for flag in flags)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
def test_a_gpu_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--device=cuda", f"--out={tmp_path / 'out'}"]) == 2
    assert "there is no device 'cuda'" in capsys.readouterr().err


def test_build_and_report_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--build", "--report"])
    assert "not allowed with" in capsys.readouterr().err


def test_ctrl_c_ends_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pressed(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_all", pressed)
    assert main([f"--out={tmp_path}"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    data.write(tmp_path / "d.npz", data.split(emoji(24)))
    options = runs.Options(tmp_path / "d.npz", tmp_path / "out", steps=(1, 2), seeds=(0,), changes=TINY, jobs=1)

    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.01)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(TrainingError, match=r"a worker died.*fewer --jobs"):
        runs.run_all(options, lambda _: None)
    killer.join(timeout=60)


@pytest.mark.slow
def test_an_interrupted_list_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.write(tmp_path / "d.npz", data.split(emoji(24)))
    changes = [part for change in TINY for part in ("--set", change)]
    command = [f"--data={tmp_path / 'd.npz'}", f"--out={tmp_path / 'out'}", "--seeds=1", "--jobs=1", *changes]
    assert main([*command, "--steps=9"]) == 0
    assert "step 9 seed 1" in capsys.readouterr().out
    file = tmp_path / "out" / "runs.jsonl"
    before = file.read_bytes()
    with file.open("ab") as opened:
        opened.write(before[:100])  # a line that a kill cut
    assert main([*command, "--steps=8-9"]) == 0
    printed = capsys.readouterr().out
    assert "step 8 seed 1" in printed
    assert "step 9" not in printed
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert file.read_bytes().startswith(before)
    assert [(line["step"], line["seed"]) for line in lines] == [(9, 1), (8, 1)]
    for line in lines:
        assert set(line["columns"]) == set(measure.COLUMNS)
        assert all(0 <= figure["value"] <= 1 for figure in line["columns"].values())
        assert len(line["layers"]) == 2
        assert line["budget"]["steps"] == 10
        assert line["seconds"] > 0
        assert [record["image_size"] for record in line["log"]] == [16, 24, 32]
    assert lines[0]["config"] != lines[1]["config"]
    assert main([*command, "--steps=9", "--set=optim.lr=0.5"]) == 2
    assert "was run with other settings (optim.lr 0.002, now 0.5)" in capsys.readouterr().err
    assert main([*command, "--steps=1", "--seconds=0"]) == 0  # no time: nothing is begun
    assert len(file.read_text().splitlines()) == 2
    assert main([*command, "--report", f"--report-to={tmp_path}"]) == 0
    assert "2 runs (2 steps, seeds 1)" in (tmp_path / "ABLATION.md").read_text()


def test_runs_that_fail_are_told_and_the_next_is_tried(tmp_path: Path) -> None:
    data.write(tmp_path / "d.npz", data.split(emoji(24)))
    stages = "stages=[{image_size=16, samples=9000}, {image_size=24, samples=9000}]"
    changes = (*TINY, "data.batch_size=4096", stages)
    options = runs.Options(tmp_path / "d.npz", tmp_path / "out", steps=(4,), seeds=(0, 1), changes=changes, jobs=1)
    told: list[runs.Run | str] = []
    assert runs.run_all(options, told.append) == 2
    assert [str(line).partition(": ConfigError: data.batch_size")[0] for line in told] == [
        "step 4, seed 0", "step 4, seed 1",
    ]  # fmt: skip
    assert not list(runs.Journal(tmp_path / "out" / runs.RUNS))
