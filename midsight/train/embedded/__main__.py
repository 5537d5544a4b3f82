"""Train the model that ships with midsight: `python -m midsight.train.embedded --out midsight/assets/embedded`.

Each stage is kept in the work folder; the same command after an interruption goes on behind the last finished one.
"""

import argparse
import logging
import sys
from pathlib import Path

from midsight.api.loading import pick_device
from midsight.errors import MidsightError
from midsight.train.embedded import run
from midsight.train.embedded.recipe import SHIPPED, read_recipe


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m midsight.train.embedded", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and card")
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"), help="packages, caches and finished stages")
    parser.add_argument("--recipe", type=Path, default=SHIPPED, help="settings, a TOML file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda; of the text tower's training")
    parser.add_argument("--workers", type=int, default=1, help="processes that make training pictures")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        device = str(pick_device(options.device))
        run.train(read_recipe(options.recipe), options.work, options.out, device, options.workers)
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
