"""The report: our nine steps beside the published ones, with what is sure and what is not, and its plots."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.ablation.measure import COLUMNS, NEIGHBOURS
from benchmarks.ablation.plots import Panel, Point, save
from benchmarks.ablation.results import FEW, Mean, Results, Run, mean, student
from benchmarks.ablation.runs import RUNS
from benchmarks.ablation.steps import PUBLISHED, budget, config_of, listed
from benchmarks.report import table
from midsight.errors import ConfigError
from midsight.evaluate.metrics.zero_shot import interval
from midsight.files import Journal, atomic_write

LARGE = "core_ablation_l14"  # the published scale
CIRCLES = "circles: single seeds"
NOTE = "note.md"  # beside the runs: what else is known of how they were run


def write(out: Path, pictures: Path, runs: Path, recipe: str, changes: Sequence[str] = ()) -> Path:
    """`ABLATION.md` and three plots.

    Args:
        out, pictures: folders of the report and of its plots.
        runs: folder of the finished runs.
        recipe, changes: that they were run with.

    Raises:
        InputError: no runs.
        ConfigError: runs of another recipe.
        OutputError: a folder cannot be written.
    """
    results = Results(Journal(runs / RUNS))
    check(results, recipe, changes)
    for name, panels in plots(results).items():
        save(pictures / f"{name}.png", panels)
    note = (runs / NOTE).read_text("utf-8").strip() if (runs / NOTE).exists() else ""
    with atomic_write(out / "ABLATION.md") as file:
        file.write(text(results, command(results, recipe, changes), note, os.path.relpath(pictures, out)).encode())
    return out / "ABLATION.md"


def check(results: Results, recipe: str, changes: Sequence[str]) -> None:
    """That the runs are of this recipe, as far as its budgets tell.

    Raises:
        ConfigError: they are not.
    """
    for step in results.steps:
        found, expected = results.of(step)[0]["budget"], asdict(budget(config_of(recipe, step, 0, changes)))
        wrong = [key for key, value in expected.items() if found[key] != (list(value) if key in LISTS else value)]
        if wrong:
            told = f"{wrong[0]} {found[wrong[0]]}, expected {expected[wrong[0]]}"
            raise ConfigError(f"step {step} was not run with recipe {recipe!r}: {told}; name the right --recipe")


LISTS = ("sizes", "samples")


def command(results: Results, recipe: str, changes: Sequence[str]) -> str:
    """What gives these runs."""
    device = "cpu" if all(run["device"] == "cpu" for run in results.runs.values()) else "cuda"
    seeds = listed([seed for _, seed in results.runs])
    flags = ["--recipe", recipe, "--steps", listed(results.steps), "--seeds", seeds, "--device", device]
    return shlex.join(["python", "-m", "benchmarks.ablation", *flags, *(f"--set={change}" for change in changes)])


def text(results: Results, done: str, note: str, pictures: str) -> str:
    """The report in Markdown: `done` is the command, `pictures` the way to the plots."""
    some = results.of(results.steps[0])[0]
    seeds = sorted({seed for _, seed in results.runs})
    devices = ", ".join(sorted({f"{run['device']}, torch {run['torch']}" for run in results.runs.values()}))
    plot = "" if pictures == "." else f"{pictures}/"
    parts = [
        "# The published ablation at small scale",
        f"Written by `python -m benchmarks.ablation --report`; do not edit. {len(results.runs)} runs "
        f"({len(results.steps)} steps, seeds {', '.join(map(str, seeds))}) on {devices}: `{done}`. {note}".strip(),
        INTRO,
        "## Step by step",
        table(step_rows(results)),
        "\n".join(f"- {line}" for line in findings(results)),
        f"![Published and own change of each step, and our average]({plot}steps.png)",
        "## The six columns",
        "\n".join(
            f"- `{name}`: {what}; {some['columns'][name]['count']} queries, guessing gives "
            f"{100 * some['columns'][name]['chance']:.2f} %."
            for name, what in COLUMNS.items()
        ),
        table(column_rows(results)),
        sampling(some),
        "## Training loss",
        LOSSES,
        table(loss_rows(results)),
        "## What it costs",
        table(cost_rows(results)),
        saving(results),
        f"![Cost and quality of one resolution and of progressive resolution]({plot}progressive.png)",
        "## Last layer and best layer",
        f"kNN ({NEIGHBOURS} neighbours, mean patch token, {some['knn']['count']} drawings of concepts that were not "
        f"trained) over emoji subgroups; the commonest subgroup gives {100 * some['knn']['chance']:.1f} %. The paper "
        "asks detection, depth, tracking and segmentation of its layers; this is a smaller question.",
        table(layer_rows(results)),
        deeper(results),
        f"![kNN accuracy by layer, and of the last and the best layer by step]({plot}layers.png)",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


INTRO = (
    "Nine steps, each with the changes of all before it, as the paper orders them for ViT-L/14 (section 2.1, figure 2, "
    "table 26). Here a tower of a few layers sees open drawings with names: emoji of four styles, Open Clip Art and "
    "furniture icons. Resolutions, samples and batch have the published proportions, so every step takes as many "
    "optimiser steps. Learning rates are the published ones, not tuned for this size. What cannot be "
    "carried over: a batch is hundreds of pairs and not 64 thousand, a picture is seen tens of times and not once or "
    "twice, concepts repeat within a batch, and the data are drawings. So a difference from the published change says "
    "something about this scale, not that the published one is wrong."
)

LOSSES = (
    "The contrastive loss of the last batch of each stage, a mean over the seeds. Each stage takes up the weights of "
    "the one before; where its loss ends higher, it has not made up for the new resolution. The model is measured "
    "at its last resolution. Losses of different batch sizes (steps 1 and 2 against the others) do not compare, nor do "
    "those with augmented pictures (from step 8 on)."
)


def step_rows(results: Results) -> list[dict[str, str]]:
    """Published beside ours; changes against the step before, in points."""
    rows, before = [], None
    for step in PUBLISHED:
        if step.number not in results.steps:
            before = step.average
            continue
        change, pooled = results.change(step.number), results.pooled(step.number)
        ours = results.average(step.number)
        published = None if before is None else step.average - before
        rows.append(
            {
                "#": str(step.number),
                "Step": step.title,
                "Published average": f"{step.average:.1f}",
                "Published change": "" if published is None else f"{published:+.1f}",
                "Our average": ours.text(),
                "Our change": "" if change is None else change.text(sign=True),
                "± of this step": half(change),
                "± pooled": half(pooled),
                "Direction": "" if pooled is None or published is None else verdict(pooled, published),
            }
        )
        before = step.average
    return rows


def half(change: Mean | None) -> str:
    """Half of an interval, in points."""
    return "" if change is None or change.half is None else f"{100 * change.half:.1f}"


def verdict(ours: Mean, published: float) -> str:
    """Whether our change goes the published way, as far as the seeds can tell."""
    if not ours.sure:
        return "not told apart from none"
    return "as published" if ours.value * published > 0 else "**the other way**"


def findings(results: Results) -> list[str]:
    """What the table comes to, counted."""
    published = {b.number: b.average - a.average for a, b in zip(PUBLISHED, PUBLISHED[1:], strict=False)}
    changes = {n: change for n in published if (change := results.pooled(n)) is not None}
    lines = [by_intervals(results, changes, published), by_signs(changes, published)] if changes else []
    first, last = results.steps[0], results.steps[-1]
    whole = results.between(first, last) if first != last else None
    if whole is not None:
        ends = {step.number: step.average for step in PUBLISHED}
        told = f"{whole.text(sign=True)} points, published {ends[last] - ends[first]:+.1f}"
        lines.append(f"From step {first} to step {last}: {told}.")
    return lines


def by_intervals(results: Results, changes: Mapping[int, Mean], published: Mapping[int, float]) -> str:
    """What the pooled intervals say, and what each step's own."""
    judged = {n: verdict(change, published[n]) for n, change in changes.items()}
    kinds = ("as published", "**the other way**", "not told apart from none")
    found = {kind.strip("*"): [n for n, said in judged.items() if said == kind] for kind in kinds}
    told = "; ".join(f"{kind}: {_named(of)}" for kind, of in found.items() if of)
    alone = [n for n in changes if (own := results.change(n)) is not None and own.sure]
    few = max(change.seeds for change in changes.values())
    wide = f" With {few} seeds that factor of Student's is {student(few - 1):.1f}." if 1 < few <= FEW else ""
    return (
        f"Direction, by the pooled 95 % interval: {told}. It takes every step as equally noisy. An interval from the "
        f"seeds of one step alone leaves out zero at {_named(alone)}.{wide} Of {len(changes)} intervals one or more "
        f"errs in {100 * (1 - 0.95 ** len(changes)):.0f} % of such tables."
    )


def by_signs(changes: Mapping[int, Mean], published: Mapping[int, float]) -> str:
    """Directions without intervals."""
    signs = sum(change.value * published[n] > 0 for n, change in changes.items())
    same = [
        n for n, c in changes.items() if c.seeds > 1 and abs(sum(v > 0 for v in c.each) - c.seeds / 2) == c.seeds / 2
    ]
    told = [[n for n in same if (changes[n].value * published[n] > 0) is agrees] for agrees in (True, False)]
    return (
        f"Without intervals: {signs} of {len(changes)} changes have the published sign. All seeds agree with it at "
        f"{_named(told[0])}, all are against it at {_named(told[1])}; of two seeds without an effect every second pair "
        "agrees with itself."
    )


def column_rows(results: Results) -> list[dict[str, str]]:
    """Percent of each column, with the paired change behind it."""
    rows = []
    for step in results.steps:
        row = {"#": str(step)}
        for name in COLUMNS:
            change, found = results.change(step, name), results.column(step, name)
            told = "" if change is None else f" ({change.text(sign=True)})"
            row[name] = found.text() if found.seeds < FEW else f"{100 * found.value:.1f}{told}"
        rows.append(row)
    return rows


def sampling(run: Run) -> str:
    """How much of a single run's figure is the luck of which pictures were held out."""
    halves = []
    for name in COLUMNS:
        low, high = interval(run["columns"][name]["value"], int(run["columns"][name]["count"]))
        halves.append(f"`{name}` ±{50 * (high - low):.1f}")
    return (
        "In brackets: the seeds one by one where they are few, else the change against the step before, paired by "
        "seed. Neither counts that other pictures could have been held out; of one run that is worth "
        + ", ".join(halves)
        + f" points (Wilson, 95 %, step {run['step']}), and more where a concept has several drawings among them "
        "(`new`). All steps and seeds see the same pictures, so less of it is left in a change."
    )


def loss_rows(results: Results) -> list[dict[str, str]]:
    """Loss at the end of each stage, and how many optimiser steps the last stage has."""
    found = {step: results.losses(step) for step in results.steps}
    sizes = sorted({size for losses in found.values() for size in losses})
    rows = []
    for step, losses in found.items():
        cost = results.of(step)[0]["budget"]
        row = {"#": str(step)} | {f"{size} px": f"{losses[size]:.2f}" if size in losses else "" for size in sizes}
        rows.append(row | {"Optimiser steps of the last stage": str(cost["samples"][-1] // cost["batch"])})
    return rows


def cost_rows(results: Results) -> list[dict[str, str]]:
    """Budgets, ours beside ViT-L/14's, each relative to its own first step."""
    first = results.steps[0]
    ours, large = results.of(first)[0]["budget"]["flops"], budget(config_of(LARGE, first)).flops
    return [
        {
            "#": str(step),
            "Resolutions": " / ".join(map(str, cost["sizes"])),
            "Samples": " / ".join(f"{count:,}" for count in cost["samples"]),
            "Batch": str(cost["batch"]),
            "Optimiser steps": str(cost["steps"]),
            "FLOPs": f"{cost['flops']:.3g}",
            f"To step {first}": f"{cost['flops'] / ours:.2f}",
            "The same of ViT-L/14": f"{budget(config_of(LARGE, step)).flops / large:.2f}",
            "Seconds a run": ", ".join(f"{run['seconds']:.0f}" for run in results.of(step)),
        }
        for step in results.steps
        for cost in [results.of(step)[0]["budget"]]
    ]


def saving(results: Results) -> str:
    """What progressive resolution saves, and at what price."""
    change, time = results.between(1, 2), results.ratio(1, 2)
    if change is None or time is None:
        return ""
    one, two = (results.of(step)[0]["budget"]["flops"] for step in (1, 2))
    return (
        f"Progressive resolution takes {100 * two / one:.0f} % of the FLOPs and {100 * time.value:.0f} % of the time "
        f"of one resolution (by seed {', '.join(f'{100 * share:.0f} %' for share in time.each)}), at a change of "
        f"{change.text(sign=True)} points (published: half the FLOPs, -0.2). Times are of the optimiser's steps, with "
        "other runs beside it, so they waver; where launches and not arithmetic take the time, fewer FLOPs save little "
        "of it."
    )


def deeper(results: Results) -> str:
    """Whether the middle of the tower is better than its end, in words."""
    gains = {step: results.gain(step) for step in results.steps}
    count = len(results.layers(results.steps[0]))
    inside = [step for step in results.steps if results.best_layer(step) < count - 1]
    better = [step for step, gain in gains.items() if gain.sure and gain.value > 0]
    return (
        f"The best layer is not the last one at {_named(inside)}; the gain is clear of zero at {_named(better)}. The "
        "best layer of a seed is chosen on the other seeds, so that luck is no gain. The paper says of detection "
        "(section 3; it prints no numbers by step): the recipe raises the best layer by almost 10 points, progressive "
        "resolution most of all; it and attention pooling move the best layer deeper; the last layer stands still "
        "after step 2."
    )


def _named(steps: Sequence[int]) -> str:
    return f"step {', '.join(map(str, steps))}" if steps else "no step"


def layer_rows(results: Results) -> list[dict[str, str]]:
    """Last block against the best one."""
    rows = []
    for step in results.steps:
        layers, best = results.layers(step), results.best_layer(step)
        rows.append(
            {
                "#": str(step),
                "Last layer": layers[-1].text(),
                "Best layer": layers[best].text(),
                "Which": f"layer {best + 1} of {len(layers)} (layer_idx {best})",
                "Gain": results.gain(step).text(sign=True),
                "Embedding": mean([run["embedding"] for run in results.of(step)]).text(),
            }
        )
    return rows


def plots(results: Results) -> dict[str, list[Panel]]:
    """Panels by name of the plot."""
    steps = results.steps
    drawn = {"steps": [_changes(results), _averages(results)], "layers": [_curves(results), _ends(results)]}
    return drawn | ({"progressive": _progressive(results)} if {1, 2} <= set(steps) else {})


def _changes(results: Results) -> Panel:
    pairs = [(a, b) for a, b in zip(PUBLISHED, PUBLISHED[1:], strict=False) if results.change(b.number) is not None]
    ours = [found.point(pooled=True) for _, b in pairs if (found := results.pooled(b.number)) is not None]
    bars = {"published (ViT-L/14)": [Point(b.average - a.average) for a, b in pairs], "ours": ours}
    return Panel(
        "Change against the step before",
        [str(b.number) for _, b in pairs] or ["-"],
        "points",
        bars=bars,
        note=f"{CIRCLES}; lines: 95 %, pooled",
    )


def _averages(results: Results) -> Panel:
    lines = {"ours": [results.average(step).point() for step in results.steps]}
    return Panel(
        "Our average of six columns by step", [str(step) for step in results.steps], "%", lines=lines, note=CIRCLES
    )


def _curves(results: Results) -> Panel:
    titles = {step.number: f"{step.number} {step.title}" for step in PUBLISHED}
    lines = {titles[step]: [Point(100 * m.value) for m in results.layers(step)] for step in results.steps}
    labels = [str(layer + 1) for layer in range(len(results.layers(results.steps[0])))]
    return Panel("kNN accuracy by layer", labels, "%", lines=lines)


def _ends(results: Results) -> Panel:
    lines = {
        "last layer": [results.layers(step)[-1].point() for step in results.steps],
        "best layer": [results.layers(step)[results.best_layer(step)].point() for step in results.steps],
    }
    return Panel(
        "kNN accuracy of the last and the best layer by step",
        [str(step) for step in results.steps],
        "%",
        lines,
        note=CIRCLES,
    )


def _progressive(results: Results) -> list[Panel]:
    """What step 2 costs and gives beside step 1."""

    def share(of: float, to: float) -> Point:
        return Point(100 * of / to)

    costs = {step: results.of(step)[0]["budget"]["flops"] for step in (1, 2)}
    large, time = {step: budget(config_of(LARGE, step)).flops for step in (1, 2)}, results.ratio(1, 2)
    bars = {
        "one resolution (step 1)": [Point(100.0)] * 3,
        "progressive (step 2)": [
            share(costs[2], costs[1]),
            Point(100.0) if time is None else Point(100 * time.value, each=tuple(100 * share for share in time.each)),
            share(large[2], large[1]),
        ],
    }
    cost = Panel("Cost in % of step 1", ["FLOPs", "seconds", "FLOPs of ViT-L/14"], "", bars=bars, note=CIRCLES)
    quality = {"step 1": [results.column(1, name).point() for name in COLUMNS]}
    quality |= {"step 2": [results.column(2, name).point() for name in COLUMNS]}
    return [cost, Panel("Quality", list(COLUMNS), "%", bars=quality, note=CIRCLES)]
