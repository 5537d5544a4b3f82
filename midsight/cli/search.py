"""`midsight search`: words, pictures and videos in, what is most like them out."""

import re
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.cli.beside import beside
from midsight.errors import InputError
from midsight.imports import without_gc

if TYPE_CHECKING:
    from midsight.library.index import Filter, Hit, Query
    from midsight.library.index.query import Examples

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
Index = Annotated[
    Path,
    typer.Option(
        "--index", help="The indexed folder, or its index. Default: here, above, or right below.", show_default=False
    ),
]
PathPattern = Annotated[list[str] | None, typer.Option("--path", help="Only paths like this: '*.jpg', '2024/**'.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only image, video or page.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only files with this tag.")]
After = Annotated[str | None, typer.Option("--after", help="Only files changed since: 2024-05-01.", show_default=False)]
Before = Annotated[str | None, typer.Option("--before", help="Only files changed before.", show_default=False)]
MinSize = Annotated[str | None, typer.Option("--min-size", help="Only files of so many bytes: 2M.", show_default=False)]
MaxSize = Annotated[str | None, typer.Option("--max-size", help="Only files up to so many bytes.", show_default=False)]


def search(
    words: Annotated[list[str] | None, typer.Argument(help="What to look for, in words.", metavar="WORDS")] = None,
    images: Annotated[list[Path] | None, typer.Option("--image", help="Look for what is like this picture.")] = None,
    videos: Annotated[list[Path] | None, typer.Option("--video", help="Look for what is like this video.")] = None,
    like: Annotated[list[str] | None, typer.Option("--like", help="Look for what is like this hit, by its id.")] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="Words for what the hits should not be like.")
    ] = None,
    without_images: Annotated[
        list[Path] | None, typer.Option("--without-image", help="A picture that the hits should not be like.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Of words, pictures, videos, hits, in that order: 1,0.5.", show_default=False),
    ] = None,
    paths: PathPattern = None,
    kinds: Kinds = None,
    tags: Tags = None,
    after: After = None,
    before: Before = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    top: Annotated[int, typer.Option("--top", "-n", help="Most hits.", min=1)] = 10,
    by_text: Annotated[bool, typer.Option("--text/--no-text", help="Look into the text of pages, too.")] = True,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every entry, even in a large index.")] = False,
    index: Index = Path(),
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    model: options.Model = None,
    as_json: options.Json = False,
) -> None:
    """Search an indexed folder by words, pictures, videos, or a mixture.

    A hit in a video has its second, a hit in a document its page. The model is the one that the index was made with.

    Example: midsight search "a red bicycle at night" --path "2024/**"
    """
    from midsight.library.index import Library, Query

    query = Query(
        texts=(" ".join(words),) if words else (), images=tuple(images or ()), videos=tuple(videos or ()),
        rows=tuple(like or ()), weights=_weights(weights), without_texts=tuple(without or ()),
        without_images=tuple(without_images or ()),
        where=read_filter(paths, kinds, tags, after, before, min_size, max_size),
        words=None if by_text else "", top=top, exact=exact,
    )  # fmt: skip
    with ExitStack() as stack:
        embed = partial(_embed, query, index, model, device, dtype, threads)
        embedded = stack.enter_context(beside(embed)) if query.needs_model else None
        try:
            library = stack.enter_context(Library(index))
        except InputError as error:
            if words and len(words) > 1 and Path(words[-1]).is_dir():
                raise InputError(f"{error}. A folder is named like this: --index {words[-1]}") from error
            raise
        with show.status(f"loading {library.about.model}"):
            examples = None if embedded is None else embedded()
        tell(library.search(query, examples), as_json)


def _embed(query: "Query", index: Path, model: str | None, device: str, dtype: str, threads: int | None) -> "Examples":
    """The question's examples, by the index's model or by the one that is asked for."""
    import midsight
    from midsight.library.index.library import check_model, find_index, open_model
    from midsight.library.index.manifest import read_about, read_manifest
    from midsight.library.index.query import embed_examples

    manifest = read_manifest(find_index(index))
    with without_gc():  # there is nothing but what has just been loaded
        if model is None:
            return embed_examples(query, open_model(manifest, device, dtype, threads))
        loaded = midsight.load(model, device, dtype, threads=threads)  # type: ignore[arg-type]  # load says what may be
        check_model(manifest, read_about(manifest.current), loaded)
        return embed_examples(query, loaded)


def tell(hits: "list[Hit]", as_json: bool) -> None:
    """Hits as a table, or a JSON object each."""
    if as_json:
        for hit in hits:
            show.json_line(_record(hit))
    elif hits:
        rows = [(f"{hit.score:.3f}", near(hit.file), place(hit), hit.text[:60] if hit.text else "") for hit in hits]
        used = [i for i in range(4) if any(row[i] for row in rows)]  # without columns that would be empty
        columns = ("score", "file", "at", "text")
        show.table([columns[i] for i in used], [[row[i] for i in used] for row in rows], right=("score",))
    else:
        show.note("nothing fits")


def near(file: Path) -> Path:
    """The file as it is named from here, if it is below the current folder."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def place(hit: "Hit") -> str:
    """Where in the file a hit is: minutes and seconds, or a page."""
    if hit.page is not None:
        return f"page {hit.page}"
    if hit.start is None:
        return ""
    minutes, seconds = divmod(int(hit.start), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def read_filter(
    paths: list[str] | None = None,
    kinds: list[str] | None = None,
    tags: list[str] | None = None,
    after: str | None = None,
    before: str | None = None,
    min_size: str | None = None,
    max_size: str | None = None,
) -> "Filter":
    """The filter that options describe."""
    from midsight.library.index import Filter

    return Filter(
        tuple(paths or ()), tuple(kinds or ()), tuple(tags or ()), _time("--after", after), _time("--before", before),
        _bytes("--min-size", min_size), _bytes("--max-size", max_size),
    )  # fmt: skip


def _record(hit: "Hit") -> dict[str, Any]:
    return {**asdict(hit), "file": str(hit.file), "tags": list(hit.tags)}


def _weights(value: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise InputError(f"--weights must be numbers separated by commas, got {value!r}") from None


def _time(option: str, value: str | None) -> float | None:
    try:
        return None if value is None else datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise InputError(f"{option} must be a date like 2024-05-01 or 2024-05-01T18:30, got {value!r}") from None


def _bytes(option: str, value: str | None) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"([\d.]+)\s*([kmg]?)b?", value.strip().lower())
    try:
        if found is None:
            raise ValueError
        return round(float(found[1]) * _UNITS[found[2]])
    except ValueError:
        raise InputError(f"{option} must be a size like 500k, 2M or 1G, got {value!r}") from None
