"""What the commands of this package share: their options, their log, one thread."""

import argparse
import logging
from pathlib import Path

import torch


def parser(module: str, text: str | None, out: str) -> argparse.ArgumentParser:
    """Options that every one of them has.

    Args:
        module: as it is started with `python -m`.
        text: its help.
        out: what --out is.
    """
    made = argparse.ArgumentParser(
        f"python -m {module}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, required=True, help=out)
    made.add_argument("--work", type=Path, default=Path("runs/spatial"), help="scenes and runs")
    made.add_argument("--packages", type=Path, default=Path("runs/embedded/data"), help="packaged open data")
    made.add_argument("--measure", action="store_true", help="only measure what is in --out")
    return made


def prepare() -> None:
    """A log with times on stderr, and one thread, so that the numbers are the same again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    torch.set_num_threads(1)
