"""Align, measure and describe the embedded PE-Spatial.

python -m midsight.train.embedded_spatial --out midsight/assets/embedded_spatial      scenes, alignment, table, card
python -m midsight.train.embedded_spatial --out FOLDER --measure                      the table of what is there

Every finished part stays in the work folder; the same command after an interruption goes on.
"""

import logging
import sys

from midsight.data.scenes.write import packaged_stock
from midsight.errors import MidsightError
from midsight.evaluate.scene_probes import ProbeConfig
from midsight.train.align_spatial import train_spatial
from midsight.train.embedded_spatial import card, command, measure, scenes
from midsight.train.spatial_config import read_spatial_recipe

_RECIPE = "spatial_embedded"
_START = "embedded"
log = logging.getLogger("midsight.train.embedded_spatial")


def main() -> int:
    """Exit code: 0, 1 where something cannot be had or written, 130 where it was stopped."""
    options = command.parser("midsight.train.embedded_spatial", __doc__, "folder for weights, configuration and card")
    options.add_argument("--recipe", default=_RECIPE, help="settings, a TOML file")
    options.add_argument("--clips", type=int, default=60, help="clips that are measured, at most")
    given = options.parse_args()
    command.prepare()
    try:
        config = read_spatial_recipe(given.recipe)
        scenes.build(given.work, packaged_stock(given.packages), config.model.image_size, log.info)
        if not given.measure:
            data = f"data.source={given.work / 'train'}"
            config = read_spatial_recipe(given.recipe, [data, f"model.start={_START}"])
            outcome = train_spatial(config, given.work / "run", resume=True, report=lambda r: log.info("%s", dict(r)))
            if not outcome.finished or outcome.model is None:
                log.info("stopped after step %d; the same command goes on", outcome.step)
                return 130
            card.save(outcome.model, given.out)
        asked = measure.read(given.work, ProbeConfig(), given.clips)
        core, ours = (measure.layers_of(source, asked, ProbeConfig()) for source in (_START, given.out))
        table = measure.table(core, ours, trunk=measure.has_trunk(_START))
        sys.stdout.write(table + "\n")
        card.write(given.out, table, asked)
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
