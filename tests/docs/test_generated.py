"""The generated parts of README and docs are what the code and the files in benchmarks say now."""

import runpy
from pathlib import Path

import pytest

from midsight.configs import MODELS
from tests.docs.sandbox import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "generate_tables.py"))


@pytest.mark.parametrize("page", SCRIPT["pages"](), ids=lambda page: page.stem)
def test_parts_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == SCRIPT["with_parts"](text), "run: python docs/generate_tables.py"


def test_every_part_stands_somewhere() -> None:
    used = {name for page in SCRIPT["pages"]() for name in SCRIPT["MARKED"].findall(page.read_text(encoding="utf-8"))}
    assert used == set(SCRIPT["PARTS"])


def test_readme_has_each_model_with_its_figures_and_their_source() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for info in MODELS.values():
        (line,) = [line for line in lines if line.startswith(f"| {info.name} |")]
        assert info.source in line
        assert all(f"{what} {value}" in line for what, value in info.figures)


def test_stale_parts_are_replaced_and_the_rest_is_left() -> None:
    text = "before\n<!-- generated: layers -->\nold\n<!-- /generated -->\nafter\n"
    new = SCRIPT["with_parts"](text)
    assert new.startswith("before\n<!-- generated: layers -->\n```text\n")
    assert new.endswith("```\n<!-- /generated -->\nafter\n")
    assert "old" not in new
    assert SCRIPT["with_parts"](new) == new


def test_sections_of_the_ablation_are_copied_with_plots_that_are_there() -> None:
    report = (ROOT / "benchmarks" / "ABLATION.md").read_text(encoding="utf-8")
    for title in ("Step by step", "Training loss", "What it costs", "Last layer and best layer"):
        lines = SCRIPT["ablation"](title).splitlines()
        assert len([line for line in lines if line.startswith("| ")]) >= 11  # head, rule, nine steps
        for line in lines:
            plot = line.startswith("![")
            assert line.replace("](", "](../docs/") in report.splitlines() if plot else line in report.splitlines()
            assert not plot or (ROOT / "docs" / line[line.index("](") + 2 : -1]).is_file()
    with pytest.raises(SystemExit, match="expected a section 'None'"):
        SCRIPT["ablation"]("None")


def test_speed_is_copied_word_for_word() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    quoted = SCRIPT["speed"]().splitlines()
    assert len(quoted) > 5
    assert [line for line in quoted if line not in results] == []
