"""`python -m benchmarks.ablation`: run the nine steps, and report them.

python -m benchmarks.ablation --build                          the data file, from packages (minutes)
python -m benchmarks.ablation --steps 1-9 --seeds 0-2          all runs; the same command again goes on
python -m benchmarks.ablation --recipe core_ablation_medium --device cuda --jobs 8
python -m benchmarks.ablation --recipe core_ablation_medium --report       ABLATION.md and its plots
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from benchmarks.ablation import report, results, runs, steps  # noqa: E402
from benchmarks.ablation.data import pack  # noqa: E402
from midsight.errors import MidsightError  # noqa: E402

HERE = Path(__file__).parent
PLOTS = HERE.parent.parent / "docs" / "ablation"
CHANGED = Path("runs/ablation")  # of a changed recipe


def parser() -> argparse.ArgumentParser:
    """The options; their defaults are those of `runs.Options`."""
    defaults = runs.Options(Path("runs/ablation.npz"), CHANGED)
    made = argparse.ArgumentParser(
        "python -m benchmarks.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out = f"folder of finished runs; by itself benchmarks/ablation/RECIPE, and {CHANGED} with --set"
    made.add_argument("--out", type=Path, help=out)
    made.add_argument("--data", type=Path, default=defaults.data, help=f"the pictures, one file ({defaults.data})")
    made.add_argument("--work", type=Path, default=Path("runs/ablation-data"), help="packages and shards, for --build")
    made.add_argument("--recipe", default=defaults.recipe, help=f"of step 9, by name or path ({defaults.recipe})")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    made.add_argument("--steps", default="1-9", help="such as 1-9 (as it is) or 1,2,5")
    made.add_argument("--seeds", default="0-2", help="such as 0-2 (as it is)")
    made.add_argument("--device", choices=("cpu", "cuda"), default=defaults.device)
    made.add_argument("--jobs", type=int, default=defaults.jobs, help="runs at once; 0: by the machine")
    made.add_argument("--seconds", type=float, default=defaults.seconds, help="start no run after so many")
    instead = made.add_mutually_exclusive_group()
    instead.add_argument("--build", action="store_true", help="make the data file and leave")
    instead.add_argument("--report", action="store_true", help="write the report of all finished runs and leave")
    made.add_argument("--report-to", type=Path, default=HERE.parent, help="folder of the report (benchmarks)")
    made.add_argument("--plots-to", type=Path, help="folder of its plots (docs/ablation; with --report-to, the same)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where a run failed, 2 where the command cannot be carried out, 130 where it was stopped."""
    given = parser().parse_args(arguments)
    try:
        return act(given)
    except MidsightError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished runs are kept, and the same command goes on", file=sys.stderr)
        return 130


def act(given: argparse.Namespace) -> int:
    """What was asked for."""
    out = given.out or (CHANGED if given.set else HERE / Path(given.recipe).stem)
    if given.build:
        given.data.parent.mkdir(parents=True, exist_ok=True)
        pack(given.data, given.work)
        return 0
    if given.report:
        plots = given.plots_to or (PLOTS if given.report_to == HERE.parent else given.report_to)
        print(report.write(given.report_to, plots, out, given.recipe, given.set))
        return 0
    wanted = steps.numbers(given.steps, steps.NUMBERS, "--steps")
    seeds = steps.numbers(given.seeds, None, "--seeds")
    options = runs.Options(
        given.data, out, given.recipe, wanted, seeds, tuple(given.set), given.device, given.jobs, given.seconds
    )
    return int(runs.run_all(options, tell) > 0)


def tell(result: runs.Run | str) -> None:
    """One line for each run that ended."""
    if isinstance(result, str):
        print(f"failed: {result}", file=sys.stderr, flush=True)
        return
    average, seconds = results.average_of(result), result["seconds"]
    print(f"step {result['step']} seed {result['seed']}: {100 * average:.1f} % in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
