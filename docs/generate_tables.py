"""Writes the parts of README and docs that are made from the code, benchmarks/RESULTS.md and ABLATION.md.

Run: python docs/generate_tables.py. They stand between `<!-- generated: NAME -->` and `<!-- /generated -->`.
"""

import ast
import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from midsight.cli.models import record
from midsight.configs import MODELS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "midsight"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
ABLATION = ROOT / "benchmarks" / "ABLATION.md"
MODERATION = ROOT / "benchmarks" / "MODERATION.md"
MARKED = re.compile(r"<!-- generated: ([\w-]+) -->\n.*?<!-- /generated -->", re.DOTALL)


def pages() -> list[Path]:
    """All pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def with_parts(text: str) -> str:
    """A page's text with all of its generated parts made anew."""
    return MARKED.sub(lambda found: f"<!-- generated: {found[1]} -->\n{PARTS[found[1]]()}\n<!-- /generated -->", text)


def models() -> str:
    """Every published model, one line each."""
    rows = []
    for entry in map(record, MODELS.values()):
        sizes = " + ".join(f"{entry[part] / 1e6:,.1f}" for part in _PARAMETERS if entry[part])
        figures = ", ".join(f"{what} {value}" for what, value in entry["figures"].items()) or "none"
        rows.append((entry["name"], sizes, str(entry["image_size"]), str(entry["layers"]), figures, entry["source"]))
    return table(("Model", "Parameters, millions", "Input", "Blocks", "Published figures", "Source"), rows)


_PARAMETERS = ("vision_parameters", "text_parameters")


def towers() -> str:
    """The shape of every published model."""
    rows = []
    for info in MODELS.values():
        vision, text = info.vision, info.text
        rows.append(
            (
                info.name,
                f"{vision.patch_size}",
                f"{vision.width}",
                f"{vision.heads}",
                "yes" if vision.use_cls_token else "no",
                f"{vision.output_dim or 'features only'}",
                f"{text.width} x {text.layers}, {text.context_length} tokens" if text else "none",
                f"`{info.repo_id}`",
            )
        )
    return table(("Model", "Patch", "Width", "Heads", "Class token", "Output", "Text tower", "Weights"), rows)


def layers() -> str:
    """The direction of imports, as `pyproject.toml` has it and `lint-imports` checks it."""
    rows = [[name for name in row if _path(name).exists()] for row in _layers()]
    lines = ["  |  ".join(row) for row in rows if row]
    width = max(map(len, lines))
    drawn = "\n".join(f"    {line.center(width).rstrip()}\n    {'v'.center(width).rstrip()}" for line in lines[:-1])
    return f"```text\n{drawn}\n    {lines[-1].center(width).rstrip()}\n```"


def tree() -> str:
    """Each module with the first sentence of its docstring, from the ground up."""
    paths = [_path(name) for row in reversed(_layers()) for name in row if _path(name).exists()]
    rows = [(f"`{path.name}{'/' * path.is_dir()}`", summary(path)) for path in paths]
    return table(("Module", "What lives there"), rows)


def summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    source = path / "__init__.py" if path.is_dir() else path
    lines = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(lines.split()))[0]


def speed() -> str:
    """The machine and the goals out of benchmarks/RESULTS.md, word for word."""
    text = RESULTS.read_text(encoding="utf-8")
    found = re.search(r"<!-- machine -->\n(.*?)\n<!-- /machine -->\n+## Goals\n+(.*?)\n(?=\n<!--|\Z)", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"{RESULTS}: expected a machine and a section of goals, as `make bench` writes them")
    return f"{found[1]}\n\n{found[2].strip()}"


def ablation(title: str) -> str:
    """A section of benchmarks/ABLATION.md, word for word; its plots lie in docs."""
    return section(ABLATION, "python -m benchmarks.ablation", title).replace("](../docs/", "](").strip()


def section(path: Path, command: str, title: str) -> str:
    """A section of a page that a command writes, word for word."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n+(.*?)\n*(?=\n## |\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path}: expected a section {title!r}, as `{command}` writes it")
    return found[1]


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows))


def _layers() -> list[list[str]]:
    """Names from the top down, those on one line being siblings."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.findall(r"\w+", row) for row in rows]


def _path(name: str) -> Path:
    """A module's file, or its folder."""
    return PACKAGE / f"{name}.py" if (PACKAGE / f"{name}.py").exists() else PACKAGE / name


_MODERATION = "python -m benchmarks.moderation"
PARTS: dict[str, Callable[[], str]] = {
    "models": models,
    "towers": towers,
    "layers": layers,
    "tree": tree,
    "speed": speed,
    "ablation-steps": partial(ablation, "Step by step"),
    "ablation-losses": partial(ablation, "Training loss"),
    "ablation-cost": partial(ablation, "What it costs"),
    "moderation-calibration": partial(section, MODERATION, _MODERATION, "Before and after calibration"),
    "moderation-labels": partial(section, MODERATION, _MODERATION, "Labels of both kinds"),
    "moderation-examples": partial(section, MODERATION, _MODERATION, "Examples"),
    "ablation-layers": partial(ablation, "Last layer and best layer"),
}


if __name__ == "__main__":
    for page in pages():
        old = page.read_text(encoding="utf-8")
        if (new := with_parts(old)) != old:
            page.write_text(new, encoding="utf-8")
            print(f"wrote {page}")
