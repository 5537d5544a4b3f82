"""docs/cli.md is what `--help` prints now."""

import runpy
import subprocess
import sys

from tests.docs.sandbox import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))


def test_page_is_what_help_prints() -> None:
    assert SCRIPT["PAGE"].read_text(encoding="utf-8") == SCRIPT["page"](), "run: python docs/generate_cli.py"


def test_page_has_every_command_and_what_the_real_program_prints() -> None:
    page = SCRIPT["PAGE"].read_text(encoding="utf-8")
    for name in ("classify", "embed", "features", "models", "info", "convert", "demo"):
        assert f"\n## midsight {name}\n" in page
    done = subprocess.run(
        [sys.executable, "-m", "midsight.cli.main", "classify", "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": str(SCRIPT["WIDTH"]), "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()).strip("\n") in page
