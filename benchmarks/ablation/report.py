"""The report: our nine steps beside the published ones, with what is sure and what is not, and its plots."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.ablation.measure import COLUMNS, NEIGHBOURS
from benchmarks.ablation.plots import Panel, Point, save
from benchmarks.ablation.results import Mean, Results, Run, mean
from benchmarks.ablation.steps import PUBLISHED, budget, config_of
from benchmarks.report import table
from midsight.evaluate.open_moji import interval
from midsight.files import Journal, atomic_write

LARGE = "core_ablation_l14"  # the published scale


def write(out: Path, runs: Path, recipe: str, command: str) -> Path:
    """`ABLATION.md` and three plots beside it.

    Args:
        out: folder of the report.
        runs: the file of finished runs.
        recipe, command: that they were run with, for the text.

    Raises:
        InputError: no runs.
        OutputError: the folder cannot be written.
    """
    results = Results(Journal(runs))
    for name, panels in plots(results).items():
        save(out / f"ablation_{name}.png", panels)
    with atomic_write(out / "ABLATION.md") as file:
        file.write(text(results, recipe, command).encode())
    return out / "ABLATION.md"


def text(results: Results, recipe: str, command: str) -> str:
    """The report in Markdown."""
    some = results.of(results.steps[0])[0]
    seeds = sorted({seed for _, seed in results.runs})
    devices = ", ".join(sorted({f"{run['device']}, torch {run['torch']}" for run in results.runs.values()}))
    parts = [
        "# The published ablation at small scale",
        f"Written by `python -m benchmarks.ablation --report`; do not edit. {len(results.runs)} runs "
        f"({len(results.steps)} steps, seeds {', '.join(map(str, seeds))}) of recipe `{recipe}` on {devices}, by "
        f"`{command}`.",
        INTRO,
        "## Step by step",
        table(step_rows(results)),
        "\n".join(f"- {line}" for line in findings(results)),
        "![Change by step](ablation_steps.png)",
        "## The six columns",
        "\n".join(
            f"- `{name}`: {what}; {some['columns'][name]['count']} queries, guessing gives "
            f"{100 * some['columns'][name]['chance']:.2f} %."
            for name, what in COLUMNS.items()
        ),
        table(column_rows(results)),
        sampling(some),
        "## What it costs",
        table(cost_rows(results)),
        saving(results),
        "![Progressive resolution](ablation_progressive.png)",
        "## Last layer and best layer",
        f"kNN ({NEIGHBOURS} neighbours, mean patch token, {some['knn']['count']} drawings of concepts that were not "
        f"trained) over emoji subgroups; the commonest subgroup gives {100 * some['knn']['chance']:.1f} %. The paper "
        "asks detection, depth, tracking and segmentation of its layers; this is a smaller question.",
        table(layer_rows(results)),
        deeper(results),
        "![Layers](ablation_layers.png)",
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


def step_rows(results: Results) -> list[dict[str, str]]:
    """Published beside ours; changes against the step before, in points."""
    rows, before = [], None
    for step in PUBLISHED:
        if step.number not in results.steps:
            before = step.average
            continue
        change, ours = results.change(step.number), results.average(step.number)
        published = None if before is None else step.average - before
        rows.append(
            {
                "#": str(step.number),
                "Step": step.title,
                "Published average": f"{step.average:.1f}",
                "Published change": "" if published is None else f"{published:+.1f}",
                "Our average": ours.text(),
                "Our change": "" if change is None else change.text(sign=True),
                "Direction": "" if change is None or published is None else verdict(change, published),
                "Seeds": str(ours.seeds),
            }
        )
        before = step.average
    return rows


def verdict(ours: Mean, published: float) -> str:
    """Whether our change goes the published way, as far as the seeds can tell."""
    if not ours.sure:
        return "not told apart from none"
    return "as published" if ours.value * published > 0 else "**the other way**"


def findings(results: Results) -> list[str]:
    """What the table comes to, counted."""
    changes = {step.number: results.change(step.number) for step in PUBLISHED}
    published = {b.number: b.average - a.average for a, b in zip(PUBLISHED, PUBLISHED[1:], strict=False)}
    judged = {n: verdict(c, published[n]) for n, c in changes.items() if c is not None and n in published}
    lines = []
    for kind in ("as published", "**the other way**", "not told apart from none"):
        found = [n for n, said in judged.items() if said == kind]
        if found:
            lines.append(f"{kind.strip('*').capitalize()}: step {', '.join(map(str, found))}.")
    signs = sum(c.value * published[n] > 0 for n, c in changes.items() if c is not None and n in published)
    if judged:
        lines.append(f"Regardless of intervals, {signs} of {len(judged)} changes have the published sign.")
    first, last = results.steps[0], results.steps[-1]
    whole = results.between(first, last) if first != last else None
    if whole is not None:
        ends = {step.number: step.average for step in PUBLISHED}
        told = f"{whole.text(sign=True)} points, published {ends[last] - ends[first]:+.1f}"
        lines.append(f"From step {first} to step {last}: {told}.")
    return lines


def column_rows(results: Results) -> list[dict[str, str]]:
    """Percent of each column, with the paired change behind it."""
    rows = []
    for step in results.steps:
        row = {"#": str(step)}
        for name in COLUMNS:
            change = results.change(step, name)
            told = "" if change is None else f" ({change.text(sign=True)})"
            row[name] = f"{100 * results.column(step, name).value:.1f}{told}"
        rows.append(row)
    return rows


def sampling(run: Run) -> str:
    """How much of a single run's figure is the luck of which pictures were held out."""
    halves = []
    for name in COLUMNS:
        low, high = interval(run["columns"][name]["value"], int(run["columns"][name]["count"]))
        halves.append(f"`{name}` ±{50 * (high - low):.1f}")
    return (
        "In brackets: the change against the step before, paired by seed. Intervals over seeds leave out that other "
        "pictures could have been held out; of one run that is worth " + ", ".join(halves) + " points (Wilson, 95 %, "
        f"step {run['step']})."
    )


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
            "Seconds a run": f"{results.seconds(step):.0f}",
        }
        for step in results.steps
        for cost in [results.of(step)[0]["budget"]]
    ]


def saving(results: Results) -> str:
    """What progressive resolution saves, and at what price."""
    change = results.between(1, 2)
    if change is None:
        return ""
    one, two = (results.of(step)[0]["budget"]["flops"] for step in (1, 2))
    return (
        f"Progressive resolution takes {100 * two / one:.0f} % of the FLOPs and {_time(results):.0f} % of the time of "
        f"one resolution, at a change of {change.text(sign=True)} points (published: half the FLOPs, -0.2). Times are "
        "of the optimiser's steps, with other runs beside it; where launches and not arithmetic take the time, fewer "
        "FLOPs save little of it."
    )


def _time(results: Results) -> float:
    return 100 * results.seconds(2) / results.seconds(1)


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
    ours = [found.point() for _, b in pairs if (found := results.change(b.number)) is not None]
    bars = {"published (ViT-L/14)": [Point(b.average - a.average) for a, b in pairs], "ours": ours}
    return Panel("Change against the step before", [str(b.number) for _, b in pairs] or ["-"], "points", bars=bars)


def _averages(results: Results) -> Panel:
    lines = {"ours": [results.average(step).point() for step in results.steps]}
    return Panel("Our average of six columns", [str(step) for step in results.steps], "%", lines=lines)


def _curves(results: Results) -> Panel:
    titles = {step.number: f"{step.number} {step.title}" for step in PUBLISHED}
    lines = {titles[step]: [Point(100 * m.value) for m in results.layers(step)] for step in results.steps}
    labels = [str(layer + 1) for layer in range(len(results.layers(results.steps[0])))]
    return Panel("kNN accuracy by layer", labels, "%", lines=lines)


def _ends(results: Results) -> Panel:
    bars = {
        "last layer": [results.layers(step)[-1].point() for step in results.steps],
        "best layer": [results.layers(step)[results.best_layer(step)].point() for step in results.steps],
    }
    return Panel("Last and best layer by step", [str(step) for step in results.steps], "%", bars=bars)


def _progressive(results: Results) -> list[Panel]:
    """What step 2 costs and gives beside step 1."""

    def share(of: float, to: float) -> Point:
        return Point(100 * of / to)

    costs = {step: results.of(step)[0]["budget"]["flops"] for step in (1, 2)}
    large = {step: budget(config_of(LARGE, step)).flops for step in (1, 2)}
    bars = {
        "one resolution (step 1)": [Point(100.0)] * 3,
        "progressive (step 2)": [
            share(costs[2], costs[1]),
            Point(_time(results)),
            share(large[2], large[1]),
        ],
    }
    cost = Panel("Cost, step 1 = 100", ["FLOPs", "seconds", "FLOPs of L/14"], "%", bars=bars)
    quality = {"step 1": [results.column(1, name).point() for name in COLUMNS]}
    quality |= {"step 2": [results.column(2, name).point() for name in COLUMNS]}
    return [cost, Panel("Quality", list(COLUMNS), "%", bars=quality)]
