"""A folder to an index that is up to date: reads what is new, follows what moved or went, in steps that cannot be torn.

Files go in groups. A group's rows are committed to the store, then its records to the table of files, and only then are
its outcomes given out. A kill between the two leaves rows without records: such files are read again by the next run,
and their rows replaced, so nothing is lost and nothing is there twice.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from midsight.ahead import read_ahead
from midsight.api import Perception
from midsight.api.media import workers_for
from midsight.errors import InputError, MidsightError
from midsight.files import StrPath, content_hash
from midsight.library.index.decode import COMMAND, MOST_FILES, Decoders, End, Part, Start, together
from midsight.library.index.embedding import Embedder
from midsight.library.index.filetable import FileRecord, Result, file_id
from midsight.library.index.generation import Generation, open_for_writing
from midsight.library.index.manifest import About, Settings
from midsight.library.index.plan import make_plan
from midsight.library.index.recall import measure_recall
from midsight.library.index.rows import Embedded, moved_rows
from midsight.library.index.scan import Found, scan
from midsight.library.index.worker import Job
from midsight.library.index.writer import Writer
from midsight.library.stores import empty_rows

if TYPE_CHECKING:
    import pyarrow as pa

DECODE_SECONDS = 60.0  # for one picture, stretch of a video or page
_REMOVED_AT_ONCE = 500
_REASONS = 5  # of one file that are kept

Did = Literal["embedded", "copied", "removed", "refused"]


@dataclass(frozen=True)
class FileOutcome:
    """What a run did with one file.

    Attributes:
        path: the file.
        did: read and embedded; copied from a file of equal content, which a move is; removed because it is gone;
            refused because it cannot even be opened.
        result: as in the table of files.
        rows: what it has in the index now.
        reason: why `result` is not "indexed".
    """

    path: Path
    did: Did
    result: Result
    rows: int
    reason: str | None = None


@dataclass(frozen=True)
class Summary:
    """The state of an index after a run.

    Attributes:
        files: known files.
        rows: what can be found.
        partial, failed: files that could be read in part, or not at all.
        closed: folders that could not be listed; what was known of them is kept.
    """

    files: int
    rows: int
    partial: int
    failed: int
    closed: dict[str, str]


class Indexer:
    """Brings the index of a folder up to date.

    Attributes:
        root: the folder.
        plan: what there is to do.
        about: what the index is made with.
    """

    def __init__(
        self,
        model: Perception,
        root: StrPath,
        folder: StrPath | None = None,
        *,
        settings: Settings | None = None,
        store: str | None = None,
        load: About | None = None,
        reembed: bool = False,
        retry: bool = False,
        batch_size: int | None = None,
        decode_seconds: float = DECODE_SECONDS,
        decoder: Sequence[str] | None = COMMAND,
    ) -> None:
        """Opens the index, makes it where there is none, and looks at the folder.

        Args:
            model: what embeds.
            root: the folder of pictures, videos and documents.
            folder: the index; `.midsight` inside the root if not given.
            settings: how files become rows; None is what the index has, or the default.
            store: where the rows go, see `stores.open_store`; None is inside the index.
            load: how the model was opened, if its name does not say it: `load`, `revision` and `image_size` count.
            reembed: if the index is of another model, of other settings or in another store, build a new one beside it
                and change over when that is whole. Stopped and called again, it goes on.
            retry: read files again that could not be read before although they have not changed.
            batch_size: pictures and frames encoded together.
            decode_seconds: longest time for one picture, stretch of a video or page.
            decoder: the command that reads files; None reads them in this process.

        Raises:
            InputError: not a folder, or an index of another model (and not `reembed`), of another folder, or of a newer
                version.
            OutputError: the index cannot be written, or another process is writing it.
            MissingDependencyError: lancedb or pyarrow is not installed.
        """
        self.root, self._model = Path(root), model
        self._scan = scan(self.root)
        self._embedder = Embedder(model, batch_size)
        self._stack = ExitStack()
        try:
            self._generation: Generation = self._stack.enter_context(
                open_for_writing(model, self.root, folder, settings=settings, store=store, load=load, reembed=reembed)
            )
            self.about = self._generation.about
            self._known = {record.name: record for record in self._generation.table.all()}
            if self._known and not self._scan.files:
                raise InputError(
                    f"{self.root}: nothing is in it, but its index knows {len(self._known)} files. Is a drive missing? "
                    f"To begin anew, delete {self._generation.manifest.folder}."
                )
            stored = self._generation.store.files()
            self.plan = make_plan(self._scan, self._known, stored, retry=retry)
            coming = (*self.plan.todo, *self.plan.refused) if stored else ()
            again = {file_id(found.name) for found in coming} & stored.keys()
            how = self.about.settings
            job = Job(model.preprocess, how.clip_seconds, how.frames, decode_seconds)
            self._decoders = Decoders(job, self.root, decoder)
            self._stack.callback(self._decoders.close)
        except BaseException:
            self._stack.close()
            raise
        self._writer: Writer[FileOutcome] = Writer(self._generation.store, self._generation.table, again)

    @property
    def folder(self) -> Path:
        """The index."""
        return self._generation.manifest.folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def run(self) -> Iterator[FileOutcome]:
        """Does the work; what is yielded is committed.

        Yields:
            An outcome for each file that is new, changed or gone.

        Raises:
            OutputError: the disk is full; what was committed is kept, and the next run goes on from there.
        """
        try:
            yield from self._refuse()
            todo = yield from self._copy()
            yield from self._embed(todo)
            yield from self._writer.commit()
            yield from self._remove()
        except (GeneratorExit, KeyboardInterrupt):
            for _ in self._writer.commit():  # whole files only
                pass
            raise
        self._generation.complete()

    @property
    def recall(self) -> float | None:
        """Share of the ten nearest rows that a search finds, measured; None where searches compare with all."""
        store = self._generation.store
        return measure_recall(store) if store.has_index() else None

    def summary(self) -> Summary:
        """The state of the index now."""
        counts = self._generation.table.counts()
        rows = self._generation.store.count()
        return Summary(
            sum(counts.values()), rows, counts.get("partial", 0), counts.get("failed", 0), dict(self._scan.closed)
        )

    def _refuse(self) -> Iterator[FileOutcome]:
        for found in self.plan.refused:
            record = self._record(found, None, "failed", reason=found.error)
            yield from self._writer.add(record, [], self._outcome(record, "refused"))

    def _copy(self) -> Generator[FileOutcome, None, list[Found]]:
        """Files whose content is known get the rows of that; returns the others."""
        sizes = {record.size for record in self._known.values() if record.outcome == "indexed"}
        rest = []
        for found in self.plan.todo:
            rows = self._rows_of_equal(found) if found.size in sizes else None
            if rows is None:
                rest.append(found)
                continue
            record, table = rows
            yield from self._writer.add(record, table, self._outcome(record, "copied"))
        return rest

    def _rows_of_equal(self, found: Found) -> "tuple[FileRecord, pa.Table] | None":
        try:
            content = content_hash(self.root / found.name)
        except MidsightError:
            return None  # the decoder will say what is wrong with it
        twin = self._generation.table.with_hash(content)
        if twin is None or twin.kind != found.kind:
            return None
        rows = self._generation.store.read([twin.id])
        if rows.num_rows != twin.rows or not rows.num_rows:
            return None
        start = Start(found.size, found.mtime_ns, content)
        record = self._record(found, start, "indexed", rows.num_rows, tags=self._tags(found) or twin.tags)
        return record, moved_rows(rows, record)

    def _embed(self, todo: Sequence[Found]) -> Iterator[FileOutcome]:
        file = _Open()
        for found, part in self._embedder.embedded(self._read(todo)):
            if isinstance(part, Embedded):
                file.pieces.append(part)
            elif isinstance(part, End):
                yield from self._finish(found, file, part)
                file = _Open()
            else:
                file.notes.append(f"{self.root / found.name}: {part}")

    def _read(self, todo: Sequence[Found]) -> Iterator[tuple[Found, Part]]:
        workers = workers_for(self._model.device)
        ahead = workers + 1 + -(-self._embedder.batch_size // MOST_FILES)  # groups; a batch and what is being read
        read, stop = self._decoders.read, self._decoders.close
        with closing(read_ahead(together(todo), read, workers=workers, inputs_ahead=ahead, stopped=stop)) as groups:
            for _, parts in groups:
                if isinstance(parts, Exception):
                    raise parts
                yield from parts

    def _finish(self, found: Found, file: "_Open", end: End) -> Iterator[FileOutcome]:
        pieces = [] if end.drop else file.pieces
        reasons = [*file.notes, *end.notes, *([end.failed] if end.failed else [])]
        if not pieces and not reasons:
            reasons = [f"{self.root / found.name}: nothing is in it."]
        result: Result = "failed" if not pieces else "partial" if reasons else "indexed"
        reason = _joined(reasons)
        record = self._record(found, end.start, result, len(pieces), reason, self._tags(found))
        yield from self._writer.add(record, pieces, self._outcome(record, "embedded"))

    def _remove(self) -> Iterator[FileOutcome]:
        nothing = empty_rows(self.about.dim)
        if self.plan.strays:
            self._generation.store.replace(self.plan.strays, nothing)
        for at in range(0, len(self.plan.gone), _REMOVED_AT_ONCE):
            some = self.plan.gone[at : at + _REMOVED_AT_ONCE]
            self._generation.store.replace([record.id for record in some], nothing)
            self._generation.table.remove([record.name for record in some])
            yield from (FileOutcome(self.root / record.name, "removed", record.outcome, 0) for record in some)

    def _record(
        self,
        found: Found,
        start: Start | None,
        outcome: Result,
        rows: int = 0,
        reason: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> FileRecord:
        size, mtime_ns = (found.size, found.mtime_ns) if start is None else (start.size, start.mtime_ns)
        content = None if start is None else start.hash
        return FileRecord(found.name, found.kind, outcome, size, mtime_ns, content, rows, reason, tags)

    def _tags(self, found: Found) -> tuple[str, ...]:
        record = self._known.get(found.name)
        if record is not None:
            return record.tags
        earlier = self._generation.earlier_tags
        return earlier.get(file_id(found.name), ()) if earlier else ()

    def _outcome(self, record: FileRecord, did: Did) -> FileOutcome:
        return FileOutcome(self.root / record.name, did, record.outcome, record.rows, record.reason)


@dataclass
class _Open:
    """What has come of the file that is being read."""

    pieces: list[Embedded] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _joined(reasons: Sequence[str]) -> str | None:
    more = len(reasons) - _REASONS
    return "; ".join([*reasons[:_REASONS], *([f"and {more} more"] if more > 0 else [])]) or None
