"""The faults of `benchmarks.index_faults`, few of each: real kills, a real full disk, broken files of all kinds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAY_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tiny_folder: Path) -> str:
    """What the command says, in a process of its own: it forks, which the tests' own process must not.

    One process for all faults, and a small model: what fails here is the index, whatever fills it.
    """
    faults = ["kills", "compaction", "broken", *(["disk"] if MAY_MOUNT else [])]
    few = ["--kills", "6", "--files", "40", "--commits", "80", "--count", "60", "--broken", "42", "--disk", "300000"]
    command = [sys.executable, "-m", "benchmarks.index_faults", *faults, "--model", str(tiny_folder), *few]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kills_while_indexing_and_compacting(said: str) -> None:
    assert "kills: 6 of" in said
    assert "compaction: 6 of" in said
    assert "without repair, no row lost, none twice" in said
    assert "orphaned bytes 0.0%" in said


def test_broken_files_of_all_kinds(said: str) -> None:
    assert "42 of them broken in 42 ways" in said
    assert "18 of 18 good rows equal the plain loop's; 42 of 42 broken ones listed; exit code 1" in said


@pytest.mark.skipif(not MAY_MOUNT, reason="only root may mount a file system of 1 MB")
def test_a_full_disk(said: str) -> None:
    assert "earlier rows; the message: " in said
    assert "bytes could not be written (no space left on the device)" in said
