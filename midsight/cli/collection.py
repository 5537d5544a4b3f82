"""`midsight dedupe` and `midsight cluster`: looks at an indexed folder as a whole."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.cli.search import After, Before, Kinds, MaxSize, MinSize, PathPattern, Tags, read_filter
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.library.index.clusters import Cluster
    from midsight.library.index.duplicates import Group

Folder = Annotated[
    Path,
    typer.Argument(
        help="The indexed folder, or its index. Default: here, above, or right below.",
        metavar="[DIR]",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Also write an HTML page with thumbnails.")]
_SHOWN = 5  # members of a cluster in the table


def dedupe(
    index: Folder = Path(),
    similarity: Annotated[float, typer.Option("--similarity", help="Least cosine; 1 finds equal files alone.")] = 0.85,
    out: Out = None,
    paths: PathPattern = None,
    kinds: Kinds = None,
    tags: Tags = None,
    after: After = None,
    before: Before = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    as_json: options.Json = False,
) -> None:
    """Find files of an indexed folder that show the same; nothing is deleted.

    The first file of a group has most pixels, then most bytes.

    Example: midsight dedupe photos/ --out duplicates.html
    """
    from midsight.library.index import Library
    from midsight.library.index.duplicates import find_duplicates

    where = read_filter(paths, kinds, tags, after, before, min_size, max_size)
    with Library(index) as library:
        groups = find_duplicates(library, similarity, where)
        if as_json:
            for group in groups:
                show.json_line({"spare_bytes": group.spare, "files": [_plain(asdict(copy)) for copy in group.copies]})
        else:
            _tell_groups(groups)
        if out is not None:
            from midsight.library.index.report import duplicates_page

            _write(out, duplicates_page(library.root, groups))


def cluster(
    index: Folder = Path(),
    count: Annotated[
        int | None, typer.Option("--count", "-k", help="How many clusters.", min=1, show_default=False)
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            "--words", help="Names to choose from: a,b,c or @FILE. Default: everyday things.", show_default=False
        ),
    ] = None,
    named: Annotated[bool, typer.Option("--names/--no-names", help="Name the clusters; loads the model.")] = True,
    out: Out = None,
    paths: PathPattern = None,
    kinds: Kinds = None,
    tags: Tags = None,
    after: After = None,
    before: Before = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Group what is in an indexed folder by what it shows.

    Example: midsight cluster photos/ --out clusters.html
    """
    from midsight.library.index import Library
    from midsight.library.index.clusters import find_clusters

    where = read_filter(paths, kinds, tags, after, before, min_size, max_size)
    with Library(index) as library:
        model = None
        if named and library.about.layer is None:
            with options.loading(library.about.model):
                model = library.open_model(device)
        choice = options.read_list(words, "names") if words else _everyday()
        with show.status("comparing"):
            found = find_clusters(library, count, where, words=choice, model=model)
        if as_json:
            for entry in found:
                members = [_plain(asdict(member)) for member in entry.members]
                show.json_line({"names": entry.names, "members": members})
        else:
            _tell_clusters(found)
        if out is not None:
            from midsight.library.index.report import clusters_page

            _write(out, clusters_page(library.root, found))


def tag(
    name: Annotated[str, typer.Argument(help="The tag.", metavar="TAG")],
    index: Folder = Path(),
    remove: Annotated[bool, typer.Option("--remove", help="Take it away.")] = False,
    paths: PathPattern = None,
    kinds: Kinds = None,
    tags: Tags = None,
    after: After = None,
    before: Before = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
) -> None:
    """Give the files of an indexed folder that fit a tag, for `--tag` of the other commands.

    Example: midsight tag holiday --path "2024/sea/**"
    """
    from midsight.library.index import Library
    from midsight.library.index.tags import tag_files

    where = read_filter(paths, kinds, tags, after, before, min_size, max_size)
    if not where:
        raise InputError("which files? Choose them with --path, --kind, --after or another filter; all: --path '*'")
    with Library(index) as library:
        changed = tag_files(library, name, where, remove=remove)
    show.note(f"{changed} files {'lost' if remove else 'got'} the tag {name}")


def _tell_groups(groups: "list[Group]") -> None:
    rows = []
    for number, group in enumerate(groups, start=1):
        for copy in group.copies:
            likeness = "keep" if copy is group.copies[0] else "same bytes" if copy.equal else f"{copy.similarity:.3f}"
            rows.append((number, likeness, copy.size, copy.path))
    if rows:
        show.table(("group", "similarity", "bytes", "file"), rows, right=("group", "bytes"))
    spare = sum(group.spare for group in groups)
    show.note(f"{len(groups)} groups of {len(rows)} files; {spare:,} bytes in all but the first of each group")


def _tell_clusters(found: "list[Cluster]") -> None:
    rows = []
    for entry in found:
        paths = dict.fromkeys(member.path for member in entry.members)  # stretches of one video count once
        shown = ", ".join(list(paths)[:_SHOWN])
        rows.append((len(entry.members), ", ".join(entry.names), shown + (", ..." if len(paths) > _SHOWN else "")))
    show.table(("entries", "looks like", "files"), rows, right=("entries",))


def _everyday() -> list[str]:
    """Names and kinds of everyday things that come with the package."""
    import csv

    from midsight.data.packaged import EVERYDAY

    with open(EVERYDAY, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return list(dict.fromkeys(row[key] for key in ("name", "kind") for row in rows if row[key]))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "file": str(values["file"])}


def _write(out: Path, page: str) -> None:
    from midsight.files import atomic_write

    with atomic_write(out) as file:
        file.write(page.encode())
    show.note(f"{out}: the page with thumbnails")
