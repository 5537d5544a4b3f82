"""`midsight ask`: questions about documents, pictures and videos."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.library.documents.ask import DocumentAsker, Reply
    from midsight.library.documents.batch import Query
    from midsight.plm.model import PLM

INTERRUPTED = 130


def ask(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH... QUESTION", help="PDFs, pictures, folders of them, or a video; then the question."
        ),
    ] = None,
    plm: Annotated[
        str | None,
        typer.Option(
            "--plm",
            help="PerceptionLM: folder or Hugging Face repository. Default: the embedded one.",
            show_default=False,
        ),
    ] = None,
    revision: options.Revision = None,
    ocr: Annotated[
        str, typer.Option("--ocr", help="auto: a PDF's own text, OCR where it has none; always: OCR; never: no OCR.")
    ] = "auto",
    pages: Annotated[
        str | None, typer.Option("--pages", help="Only these pages of each PDF, as 1-3,7.", show_default=False)
    ] = None,
    max_pages: Annotated[int, typer.Option("--max-pages", help="Pages that the model reads.", min=1)] = 4,
    style: Annotated[
        str,
        typer.Option(
            "--answer",
            help="span: words of the page; free: the model's own; checked: free, but held against the page's words and "
            "numbers; auto: by the model.",
        ),
    ] = "auto",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Of a free answer.", min=1)] = 128,
    start: Annotated[float | None, typer.Option("--start", help="Of a video, seconds.", show_default=False)] = None,
    end: Annotated[float | None, typer.Option("--end", help="Of a video, seconds.", show_default=False)] = None,
    draw: Annotated[
        Path | None, typer.Option("--draw", help="PNG of the page with the answer framed.", show_default=False)
    ] = None,
    as_json: options.Json = False,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", help='File of lines {"path": ..., "question": ...}.', show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for a batch's answers, JSONL.", show_default=False)
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what the output holds.")] = False,
    device: options.Device = "auto",
) -> None:
    """An answer to a question about a document, with its page and its place.

    Of many pages, those that are about the question are found first. Pages count from 1; boxes are pixels of the page
    as drawn, 144 to the inch, or of the picture. Without --plm, pictures and videos are named, not understood: ask
    "What is this?", "Is there a dog?" or "Is it a cat or a dog?".

    Example: midsight ask invoice.pdf "What is the total?" --draw where.png

    Example: midsight ask photo.jpg "Is there a dog?"

    Example: midsight ask --batch questions.jsonl -o answers.jsonl
    """
    from midsight.library.documents.ask import AskConfig, DocumentAsker
    from midsight.library.documents.pages import Reader
    from midsight.plm.media import MediaLimits

    config = AskConfig(
        style=style,  # type: ignore[arg-type]  # it says what is allowed
        max_pages=max_pages,
        max_new_tokens=max_new_tokens,
        media=MediaLimits(start=start, end=end),
    )
    _check_use(arguments, batch, output, draw, restart)
    with closing(Reader(ocr)) as reader:  # type: ignore[arg-type]
        if batch is not None:
            from midsight.library.documents.batch import read_questions

            queries = read_questions(batch)
            asker = DocumentAsker(_open_plm(plm, revision, device), reader, config, _looks)
            _batch(asker, queries, output, restart)
            return
        paths, question = _parse(arguments or [])
        if draw is not None:
            from midsight.library.documents.draw import check_target

            check_target(draw, paths)
        # the embedded model sees nothing, so it is opened only where there is something to read
        reads = (lambda: _open_plm(None, revision, device)) if plm is None else _open_plm(plm, revision, device)
        asker = DocumentAsker(reads, reader, config, _looks)
        _one(asker, paths, question, read_pages(pages), draw, as_json)


def read_pages(text: str | None) -> list[int] | None:
    """Page numbers of `1-3,7`; None for all.

    Raises:
        InputError: something else.
    """
    if text is None:
        return None
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = [first, last if dash else first]
        if not all(end.isdecimal() and len(end) < 7 and int(end) > 0 for end in ends) or int(ends[0]) > int(ends[1]):
            raise InputError(f"--pages {text}: expected numbers from 1 and ranges, as 1-3,7")
        found.update(dict.fromkeys(range(int(ends[0]), int(ends[1]) + 1)))
    return list(found)


def _check_use(
    arguments: list[str] | None, batch: Path | None, output: Path | None, draw: Path | None, restart: bool
) -> None:
    """Options that do not go together, before anything is loaded."""
    if batch is None and (output is not None or restart):
        raise InputError("--output and --restart belong to --batch")
    if batch is not None and (arguments or draw is not None):
        raise InputError("--batch has its paths and questions in the file: leave out the other paths and --draw")
    if restart and output is None:
        raise InputError("--restart needs the --output that it throws away")


def _parse(arguments: list[str]) -> tuple[list[str], str]:
    """Documents and question."""
    from midsight.library.documents.pages import find_documents

    if not arguments:
        raise InputError('name a document and ask: midsight ask report.pdf "What is the total?"')
    *paths, question = arguments
    if not question.strip() or (len(question) < 4096 and Path(question).exists()):
        raise InputError(f"{question!r} is where the question should be: give it last, in quotes")
    if not paths:
        raise InputError(f"no document to look at for {question[:80]!r}: name PDFs, pictures or folders before it")
    return find_documents(paths), question


def _open_plm(plm: str | None, revision: str | None, device: str) -> "PLM":
    """The model that was asked for, or else the embedded one, or else a language model alone, which is said."""
    from midsight.api.loading import pick_device
    from midsight.library.documents.default import open_default

    with show.status(f"loading {plm or 'the language model'}"):
        where = pick_device(device)
        if plm is not None:
            from midsight.plm import PLM

            return PLM.from_pretrained(plm, revision=revision, device=where)
        model, said = open_default()
    if said:
        show.note(said)
    return model.to(where)


def _looks() -> Any:
    """Pictures and texts in one space, for pages without text and for what pictures show."""
    import midsight

    return midsight.load()


def _one(
    asker: "DocumentAsker", paths: list[str], question: str, chosen: list[int] | None, draw: Path | None, as_json: bool
) -> None:
    live = sys.stdout.isatty() and not as_json
    shown: list[str] = []

    def write(piece: str) -> None:
        shown.append(piece)
        sys.stdout.write(show.safe_lines(piece))
        sys.stdout.flush()

    reply = asker.ask(paths, question, chosen, write if live else None)
    if as_json:
        from midsight.library.documents.batch import record

        show.json_line(record(reply))
    else:
        sys.stdout.write(("" if shown else show.safe_lines(reply.answer)) + "\n")
        sys.stdout.flush()
        _say_where(reply)
    for failure in reply.failures:
        show.warn(failure)
    if draw is not None and reply.pages:
        _draw(asker, reply, draw)
    if reply.why == "interrupted":
        show.warn("stopped")
        raise typer.Exit(INTERRUPTED)
    if reply.failures:
        raise typer.Exit(1)


def _say_where(reply: "Reply") -> None:
    if reply.names:
        show.note("likely by its looks: " + ", ".join(f"{name.label} {name.score:.1%}" for name in reply.names))
    if reply.pages:
        show.note(f"{reply.pages[0].id} ({reply.seconds:.1f} s)")


def _draw(asker: "DocumentAsker", reply: "Reply", path: Path) -> None:
    from midsight.library.documents.draw import draw

    count = draw(reply, asker.reader, path)
    show.note(f"{path}: {count} boxes" if count else f"{path}: the answer was not found on the page; nothing is framed")


def _batch(asker: "DocumentAsker", queries: "list[Query]", output: Path | None, restart: bool) -> None:
    from midsight.files import Journal
    from midsight.library.documents.batch import answer_all, finished

    if output is None:
        failed = 0
        for row in answer_all(asker, queries):
            show.json_line(row)
            failed += "error" in row
        show.failures(failed, len(queries))
        return
    if restart:
        output.unlink(missing_ok=True)
    with Journal(output) as journal:
        done = finished(journal, queries)
        failed = sum("error" in row for row in journal)
        if done:
            show.note(f"going on: {done} of {len(queries)} questions were answered before")
        try:
            with show.progress() as bar:
                task = bar.add_task("ask", total=len(queries), completed=done)
                for row in answer_all(asker, queries, done):
                    journal.append(row)
                    failed += "error" in row
                    if "error" in row:
                        show.warn(row["error"])
                    bar.advance(task)
        except KeyboardInterrupt:
            show.warn(f"stopped: what is answered is kept in {output}; run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
    show.note(f"{output}: {len(queries)} answers")
    show.failures(failed, len(queries))
