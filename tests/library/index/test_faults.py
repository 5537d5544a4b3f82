"""The faults of `benchmarks.index_faults`, few of each: real kills, a real full disk, broken files of all kinds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def faults(*words: object) -> str:
    """What the command says, in a process of its own: it forks, which the tests' own process must not."""
    command = [sys.executable, "-m", "benchmarks.index_faults", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_kills_while_indexing_and_compacting() -> None:
    said = faults("kills", "compaction", "--kills", 6, "--files", 40)
    assert "kills: 6 of" in said
    assert "compaction: 6 of" in said
    assert "without repair, no row lost, none twice" in said
    assert "orphaned bytes 0.0%" in said


@pytest.mark.slow
def test_broken_files_of_all_kinds() -> None:
    said = faults("broken", "--count", 60, "--broken", 42)
    assert "42 of them broken in 42 ways" in said
    assert "18 of 18 good rows equal the plain loop's; 42 of 42 broken ones listed; exit code 1" in said


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a file system of 1 MB")
def test_a_full_disk() -> None:
    said = faults("disk", "--disk", 600_000)
    assert "earlier rows; the message: " in said
    assert "bytes could not be written (no space left on the device)" in said
