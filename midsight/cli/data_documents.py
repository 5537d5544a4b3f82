"""`midsight data build documents`: its options, and what it shows."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.data.documents import DocumentsConfig

_PANEL = "Options of documents"
Count = Annotated[
    int | None,
    typer.Option(
        "--count", help="Training documents in all, over all kinds. Default: 1000.", min=1, rich_help_panel=_PANEL,
        show_default=False,
    ),
]  # fmt: skip
Kinds = Annotated[
    str | None,
    typer.Option(
        "--kinds", help="Instead of --count: training documents of each kind, as chart=500,table=200.",
        rich_help_panel=_PANEL, show_default=False,
    ),
]  # fmt: skip
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="The same seed gives the same documents. Default: 0.", min=0, rich_help_panel=_PANEL,
                 show_default=False),
]  # fmt: skip
Sides = Annotated[
    str | None,
    typer.Option(
        "--sides", help="Least and most of the longer side, pixels. Default: 448,1344.", rich_help_panel=_PANEL,
        show_default=False,
    ),
]  # fmt: skip
MinText = Annotated[
    float | None,
    typer.Option("--min-text", help="Height of the smallest text's em, pixels. Default: 11.", rich_help_panel=_PANEL,
                 show_default=False),
]  # fmt: skip
OwnFonts = Annotated[
    Path | None,
    typer.Option("--fonts", help="Folder of your own fonts instead of the packages'.", rich_help_panel=_PANEL,
                 show_default=False),
]  # fmt: skip
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes. Default: the CPUs that are free.", min=1, rich_help_panel=_PANEL,
                 show_default=False),
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """As given; None where not."""

    count: int | None
    kinds: str | None
    seed: int | None
    sides: str | None
    min_text: float | None
    fonts: Path | None
    workers: int | None

    def refuse(self, name: str) -> None:
        """For another data set.

        Raises:
            InputError: one of them was given.
        """
        given = [f.name.replace("_", "-") for f in fields(self) if getattr(self, f.name) is not None]
        if given:
            raise InputError(f"--{given[0]} is an option of documents only, and {name} is built. Leave it out.")

    def config(self) -> "DocumentsConfig":
        """The configuration that they describe.

        Raises:
            InputError: counts or sides that are not written as expected, or both --count and --kinds.
            ConfigError: values that cannot be.
        """
        from midsight.data.documents import DocumentsConfig, documents_of

        if self.count is not None and self.kinds is not None:
            raise InputError("--count and --kinds both say how many. Give one of them.")
        values: dict[str, Any] = {}
        if self.count is not None:
            values["counts"] = documents_of(self.count)
        if self.kinds is not None:
            values["counts"] = _counts(self.kinds)
        if self.sides is not None:
            values["min_side"], values["max_side"] = _sides(self.sides)
        for name in ("seed", "min_text"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        return DocumentsConfig(**values)


def build(out: Path, work: Path, options: Options) -> None:
    """Fetches what is needed, makes the documents, and says where they and their terms are."""
    config = options.config()
    from midsight.data.documents import SPLITS, write
    from midsight.files import available_cpus

    with show.status("looking for fonts, icons and sentences"):
        found = write.packaged_stock(work, options.fonts)
    for package, why in found.missing.items():
        show.warn(f"{package} is left out: {why}")
    total = sum(config.count(split, kind) for split in SPLITS for kind in config.counts)
    with show.progress() as bar:
        task = bar.add_task("documents", total=total)
        built = write.build_documents(
            out, config, found.stock, workers=options.workers or available_cpus(),
            progress=lambda done: bar.update(task, completed=done),
        )  # fmt: skip
    for document, why in built.failures.items():
        show.warn(f"{document} is left out: {why}")
    for split, number in built.documents.items():
        show.note(f"{out / split}.jsonl: {number} documents, {built.questions[split]} questions")
    show.note(
        f"{len(found.stock.families)} font families; layouts and fonts of each part in {out / write.METADATA}, "
        f"terms in {out / write.ATTRIBUTION}"
    )


def _counts(text: str) -> dict[str, int]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and number.strip().isdigit() for name, _, number in pairs):
        raise InputError(f"--kinds {text!r}: expected kinds with numbers, as chart=500,table=200")
    return {name.strip(): int(number) for name, _, number in pairs}


def _sides(text: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise InputError(f"--sides {text!r}: expected two numbers of pixels, as 448,1344")
    return int(parts[0]), int(parts[1])
