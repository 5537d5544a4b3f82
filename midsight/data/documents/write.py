"""A data set of documents on the disk: pictures, training rows in PerceptionLM's layout, and beside them the truth.

A build is a journal and whole parts: stopped, it goes on with the parts that are missing. The rows are joined at the
end, in the documents' order, so the number of processes changes no byte.
"""

import hashlib
import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from midsight.data.documents import icons, sentences
from midsight.data.documents.config import KINDS, SPLITS, DocumentsConfig, Split
from midsight.data.documents.fonts import find_fonts, installed_fonts
from midsight.data.documents.make import Maker, Place, Stock, line, places, save_picture
from midsight.data.documents.sheet import UnfitError
from midsight.errors import OutputError
from midsight.files import Journal, atomic_write

JOURNAL, METADATA, ATTRIBUTION = "journal.jsonl", "documents.json", "ATTRIBUTION.txt"
_PARTS = "parts"
_PER_PART = 32  # documents; also how many pictures lie in one folder
_MADE_BY = ("typst", "pypdfium2", "matplotlib", "faker", "numpy", "pillow")


@dataclass(frozen=True)
class BuiltDocuments:
    """What a build made."""

    documents: dict[str, int]  # of each part
    questions: dict[str, int]
    failures: dict[str, str]  # document -> why it is left out


@dataclass(frozen=True)
class Found:
    """What documents can be made of here, and which packages could not be had and why."""

    stock: Stock
    missing: dict[str, str] = field(default_factory=dict)


def packaged_stock(root: Path, fonts: Path | None = None) -> Found:
    """Fonts, icons and sentences out of packages, fetched below `root`; the fonts of a folder of your own instead.

    Raises:
        InputError: too few fonts, or a package without what is expected in it.
    """
    missing = {}
    if fonts is None:
        found = find_fonts(root)
        families, missing = found.families, dict(found.missing)
    else:
        families = installed_fonts(fonts)
    svgs, why = icons.find_icons(root)
    if why:
        missing[icons.PACKAGE.name] = why
    texts, why = sentences.find_sentences(root)
    if why:
        missing["wordnet-base"] = why
    return Found(Stock(families, svgs, texts), missing)


def build_documents(
    out: Path,
    config: DocumentsConfig,
    stock: Stock,
    *,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> BuiltDocuments:
    """Writes `out/images/`, and for each part `PART.jsonl` (rows to train on) and `PART.truth.jsonl` (what is known).

    Args:
        workers: processes; 1 works in this one.
        progress: called with the number of documents done.

    Raises:
        ConfigError: too few families to split them.
        OutputError: the disk is full, `out` holds another build, or a process died.
    """
    maker = Maker(config, stock)  # before anything is written: a configuration that cannot be
    _make_folder(out)
    with Journal(out / JOURNAL) as journal:
        done = journal.resume({"config": _plain(config), "stock": _digest(stock), "versions": _versions()}, "part")
        tasks = list(_tasks(config))
        finished = "end" in done and all((out / f"{split}.jsonl").exists() for split in SPLITS)
        if not finished:
            _make_folder(out / _PARTS)
            todo = [
                task for task in tasks if task.name not in done or not (out / _PARTS / f"{task.name}.jsonl").exists()
            ]
            count = sum(len(task.places) for task in tasks) - sum(len(task.places) for task in todo)
            with closing(_made(out, todo, maker, workers)) as made:
                for entry in made:
                    journal.append(entry)
                    done[entry["part"]] = entry
                    count += entry["documents"] + len(entry["failures"])
                    if progress is not None:
                        progress(count)
            _join(out, tasks)
            _write_json(out / METADATA, _metadata(maker, done, tasks))
            with atomic_write(out / ATTRIBUTION) as file:
                file.write(attribution(stock).encode())
            journal.append({"part": "end"})
    shutil.rmtree(out / _PARTS, ignore_errors=True)
    if progress is not None:
        progress(sum(len(task.places) for task in tasks))
    return BuiltDocuments(
        {split: _total(done, tasks, split, "documents") for split in SPLITS},
        {split: _total(done, tasks, split, "questions") for split in SPLITS},
        {key: why for task in tasks for key, why in done[task.name]["failures"].items()},
    )


def attribution(stock: Stock) -> str:
    """Whose fonts, icons and words are in the pictures, under which terms."""
    lines = [
        "The documents are made up; no person, firm or address in them is meant to be real.",
        "",
        "Fonts (in pictures only):",
    ]
    lines += [f"{f.name}: {f.licence}, out of {f.package}" for f in stock.families]
    if stock.icons:
        lines += ["", f"Icons: {icons.PACKAGE.attribution}, {icons.PACKAGE.licence}"]
    if stock.sentences:
        lines += ["", f"Sentences: {sentences.SOURCE}, WordNet licence"]
    lines += [
        "",
        "Names and addresses: Faker's word lists, MIT. Goods, headings and other words: midsight, Apache-2.0.",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Task:
    """A stretch of one part's documents, made by one process at a time."""

    name: str
    folder: str  # of the pictures, below the build
    places: tuple[Place, ...]


def _tasks(config: DocumentsConfig) -> Iterator[_Task]:
    for split in SPLITS:
        every = list(places(config, split))
        for number, start in enumerate(range(0, len(every), _PER_PART)):
            chunk = tuple(every[start : start + _PER_PART])
            yield _Task(f"{split}-{number:05d}", f"images/{split}/{number:05d}", chunk)


def _made(out: Path, tasks: Sequence[_Task], maker: Maker, workers: int) -> Generator[dict[str, Any], None, None]:
    """The journal's entry of each task, as they are finished."""
    if workers <= 1 or len(tasks) <= 1:
        yield from (_run(out, task, maker) for task in tasks)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), multiprocessing.get_context("spawn"), _start, (maker.config, maker.stock)
    )
    try:
        futures = [pool.submit(_run_in_worker, out, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise OutputError(f"{out}: a process died, perhaps for want of memory. The same command goes on.") from error
    finally:
        pool.shutdown(cancel_futures=True)


_maker: list[Maker] = []  # of a worker process


def _start(config: DocumentsConfig, stock: Stock) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the parent, which lets parts be finished
    _maker[:] = [Maker(config, stock)]


def _run_in_worker(out: Path, task: _Task) -> dict[str, Any]:
    return _run(out, task, _maker[0])


def _run(out: Path, task: _Task, maker: Maker) -> dict[str, Any]:
    """Makes a task's documents; its two files appear only when all its pictures are there."""
    folder = out / task.folder
    _make_folder(folder)
    rows, truths, failures, questions = [], [], {}, 0
    for place in task.places:
        try:
            document = maker.make(place)
        except UnfitError as error:
            failures[place.id] = str(error)
            continue
        try:
            image = f"{task.folder}/{save_picture(document, folder)}"
        except OSError as error:
            raise OutputError(f"{folder}: a picture could not be written ({error.strerror or error}).") from error
        rows += [line(row) for row in document.rows(image)]
        truths.append(line(document.truth(image)))
        questions += len(document.questions)
    for suffix, lines in (("truth.jsonl", truths), ("jsonl", rows)):
        with atomic_write(out / _PARTS / f"{task.name}.{suffix}") as file:
            file.writelines(lines)
    return {"part": task.name, "documents": len(truths), "questions": questions, "failures": failures}


def _join(out: Path, tasks: Iterable[_Task]) -> None:
    for split in SPLITS:
        names = [task.name for task in tasks if task.name.startswith(f"{split}-")]
        for suffix in ("jsonl", "truth.jsonl"):
            with atomic_write(out / f"{split}.{suffix}") as file:
                for name in names:
                    file.write((out / _PARTS / f"{name}.{suffix}").read_bytes())


def _metadata(maker: Maker, done: dict[str, Any], tasks: Sequence[_Task]) -> dict[str, Any]:
    families = {
        split: [{"name": f.name, "category": f.category, "licence": f.licence, "package": f.package} for f in members]
        for split, members in maker.parts.families.items()
    }
    return {
        "config": _plain(maker.config), "versions": _versions(),
        "documents": {split: _total(done, tasks, split, "documents") for split in SPLITS},
        "questions": {split: _total(done, tasks, split, "questions") for split in SPLITS},
        "layouts": {s: {k: list(v) for k, v in kinds.items()} for s, kinds in maker.parts.layouts.items()},
        "fonts": families, "icons": len(maker.stock.icons), "sentences": len(maker.stock.sentences),
    }  # fmt: skip


def _total(done: dict[str, Any], tasks: Iterable[_Task], split: Split, what: str) -> int:
    return sum(done[task.name][what] for task in tasks if task.places[0].split == split)


def _plain(config: DocumentsConfig) -> dict[str, Any]:
    counts = {kind: config.counts.get(kind, 0) for kind in KINDS}
    return asdict(replace(config, counts=counts))


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _MADE_BY}


def _digest(stock: Stock) -> str:
    names = [(f.name, f.category, f.regular.stat().st_size, f.bold.stat().st_size) for f in stock.families]
    return hashlib.sha256(repr((names, sorted(stock.icons.items()), stock.sentences)).encode()).hexdigest()


def _write_json(path: Path, record: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(record, ensure_ascii=False, indent=1).encode() + b"\n")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror or error}). Name a folder.") from error
