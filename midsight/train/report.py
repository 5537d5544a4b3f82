"""The report of a finetuning run as one page: what changed, curves of loss and alpha, worst classes."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --page: #f6f6f3; --ink: #1d1d1b; --quiet: #6b6b66; --a: #2f6f6a; --b: #b0562a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #161615; --ink: #eeeeea; --quiet: #a3a39c; --a: #58aaa2; --b: #e0925f; }
}
body { margin: 0 auto; padding: 2rem 1.25rem; max-width: 52rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .quiet { color: var(--quiet); font-size: .875rem; }
table { border-collapse: collapse; font-size: .925rem; } th { color: var(--quiet); font-weight: normal; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; font-variant-numeric: tabular-nums; }
svg { width: 100%; max-width: 40rem; height: auto; } text { fill: var(--quiet); font-size: 11px; }
polyline { fill: none; stroke-width: 2; } polyline.a { stroke: var(--a); } polyline.b { stroke: var(--b); }
tspan.a { fill: var(--a); } tspan.b { fill: var(--b); } line { stroke: #8886; }
"""
_WORST = 10  # classes
_WIDTH, _HEIGHT, _EDGE = 560, 200, 40  # of a curve
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # columns, rows
Series = Mapping[str, Sequence[tuple[float, float]]]  # name -> points


def page(report: Mapping[str, Any], losses: Sequence[tuple[int, float]]) -> str:
    """The whole page; nothing outside it is loaded.

    Args:
        report: of `midsight.train.finetune.Finetuning`.
        losses: (step, loss).
    """
    return "\n".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width'>",
            f"<title>Finetuning: before and after</title><style>{_STYLE}</style><h1>Finetuning: before and after</h1>",
            *_body(report, losses),
            "</html>\n",
        )
    )


def rows_of(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The table of before and after: data set and figure, before, after, answers behind it; for pages and consoles."""
    rows = []
    for name, compared in report["compared"].items():
        for key in compared["before"]["figures"]:
            before, after = (_figure(compared[side], key) for side in ("before", "after"))
            rows.append((f"{name} {key}", before, after, str(compared["after"]["samples"])))
    return rows


def _figure(record: Mapping[str, Any], key: str) -> str:
    low, high = record["intervals"][key]
    return f"{record['figures'][key]:.1%} ({low:.1%} to {high:.1%})"


def _body(report: Mapping[str, Any], losses: Sequence[tuple[int, float]]) -> Iterator[str]:
    finetune = report["finetune"]
    how = f"{finetune['mode']}, locked: {finetune['locked']}, {report['samples']} samples, batches of "
    yield f"<p class=quiet>{_safe(report['start'])} on {_safe(report['data'])}: {_safe(how)}{report['batch_size']}</p>"
    yield from (f"<p><b>{_safe(line)}</b></p>" for line in report["verdict"])
    if not report["compared"]:
        yield "<p>Nothing was held out, so nothing is known of how good it is.</p>"
    else:
        yield _table(("", "before", "after", "samples"), rows_of(report))
        yield f"<p class=quiet>{_safe(explanation(report))}</p>"
    if len(losses) > 1:
        yield "<h2>Loss of training</h2>" + _curve({"loss": losses}, "step")
    if report["curve"]:
        yield "<h2>Between start (0) and tuned (1)</h2>" + _curve(_alphas(report), "alpha", top=1.0)
        yield _table(*_alpha_table(report))
    for name, compared in report["compared"].items():
        if compared["after"]["classes"]:
            yield f"<h2>Worst classes, {_safe(name)}</h2>" + _table(*_worst(compared))


def explanation(report: Mapping[str, Any]) -> str:
    """What the figures are, and what they are not."""
    text = (
        f"Saved is alpha {report['alpha']:g}: (1 - alpha) start + alpha tuned. Intervals are 95 % (Wilson); held-out "
        "samples were chosen by their content and never trained."
    )
    if report["chosen"]:
        text += " The alpha was chosen on these very samples, so the figures behind it are slightly too good."
    if report["classes_without_held_out"]:
        text += f" Too few pictures to hold one out: {', '.join(report['classes_without_held_out'])}."
    left = {reason: n for c in report["compared"].values() for reason, n in c["after"]["left_out"].items()}
    return text + (f" Left out: {', '.join(f'{n} {reason}' for reason, n in left.items())}." if left else "")


def _alphas(report: Mapping[str, Any]) -> Series:
    """The first figure of each data set."""
    series: dict[str, list[tuple[float, float]]] = {}
    for point in report["curve"]:
        for name in report["compared"]:
            key, value = next(iter(point[name]["figures"].items()))
            series.setdefault(f"{name} {key}", []).append((point["alpha"], value))
    return series


def _alpha_table(report: Mapping[str, Any]) -> Table:
    names = [(name, key) for name, compared in report["compared"].items() for key in compared["before"]["figures"]]
    rows = [
        [
            f"{point['alpha']:g}" + (" (saved)" if point["alpha"] == report["alpha"] else ""),
            *(f"{point[name]['figures'][key]:.1%}" for name, key in names),
            *(f"{point[name]['loss']:.3f}" for name in report["compared"]),
        ]
        for point in report["curve"]
    ]
    return ["alpha", *(f"{n} {key}" for n, key in names), *(f"{name} loss" for name in report["compared"])], rows


def _worst(compared: Mapping[str, Any]) -> Table:
    before, after = compared["before"]["classes"], compared["after"]["classes"]
    order = sorted(after, key=lambda name: (after[name][0] / after[name][1], name))[:_WORST]
    rows = [[name, *(f"{side[name][0]} of {side[name][1]}" for side in (before, after))] for name in order]
    return ("class", "right before", "right after"), rows


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_safe(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _curve(series: Series, axis: str, top: float | None = None) -> str:
    """Lines over one axis, as SVG; the lowest value shown is 0."""
    points = [point for line in series.values() for point in line]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    high = top or max(y for _, y in points) or 1.0

    def place(x: float, y: float) -> str:
        across = _EDGE + (x - left) / ((right - left) or 1) * (_WIDTH - 2 * _EDGE)
        return f"{across:.1f},{_HEIGHT - _EDGE - y / high * (_HEIGHT - 2 * _EDGE):.1f}"

    lines = "".join(
        f"<polyline class={style} points='{' '.join(place(x, y) for x, y in line)}'/>"
        for line, style in zip(series.values(), "abab", strict=False)
    )
    names = "".join(
        f"<text x='{_EDGE + 180 * number}' y=14><tspan class={style}>&#9632;</tspan> {_safe(name)}</text>"
        for number, (name, style) in enumerate(zip(series, "abab", strict=False))
    )
    floor = _HEIGHT - _EDGE
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img aria-label='{_safe(', '.join(series))} over {axis}'>"
        f"<line x1='{_EDGE}' y1='{floor}' x2='{_WIDTH - _EDGE}' y2='{floor}'/>"
        f"<text x=4 y='{floor}'>0</text><text x=4 y='{_EDGE + 4}'>{high:.3g}</text>"
        f"<text x='{_EDGE}' y='{floor + 16}'>{left:g}</text>"
        f"<text x='{_WIDTH - _EDGE}' y='{floor + 16}' text-anchor=end>{axis} {right:g}</text>{lines}{names}</svg>"
    )


def _safe(text: object) -> str:
    return html.escape(str(text).encode(errors="replace").decode(), quote=True)
