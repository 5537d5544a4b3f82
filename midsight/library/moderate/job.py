"""Verdicts on many files: bad ones stop no other, and a job that was killed goes on with the same call."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from midsight.api import Perception
from midsight.errors import ConfigError, InputError, MediaError, MidsightError, OutputError
from midsight.files import Journal, atomic_write
from midsight.images import describe
from midsight.library.embed import fingerprint
from midsight.library.moderate.policy import Policy
from midsight.library.moderate.scores import Array, Scorer
from midsight.library.moderate.verdicts import Clip, Verdict, from_record, judge

VERSION = 1


class Moderator:
    """A policy in force: files in, verdicts out.

    Attributes:
        policy: as it was given.
    """

    def __init__(self, model: Perception, policy: Policy) -> None:
        """Embeds the policy's texts and examples.

        Raises:
            ConfigError: the policy was calibrated with another model.
            InputError, MediaError: as `Scorer`.
        """
        check_calibration(model, policy)
        self.policy, self.model = policy, model
        self._scorer = Scorer(model, policy)

    def verdict(self, source: Any) -> Verdict:
        """The verdict on one picture or video of any kind that `Perception.iter_embed` takes.

        Raises:
            MidsightError: it cannot be read; `verdicts` gives a verdict "error" instead. A video that is cut is judged
                by what can be read, as there.
        """
        clips: list[Clip] = []
        error = None
        for outcome in self._embedded([source]):
            clips.append(self._clip(outcome.unwrap(), outcome.start, outcome.end))
            error = _text(_cut(source)) if outcome.short_read else error
        return judge(_text(describe(source)), self.policy.categories, clips, error)

    def verdicts(self, sources: Iterable[Any], batch_size: int | None = None) -> Iterator[Verdict]:
        """A verdict on each picture and video, in order, in bounded memory; what cannot be read is an "error".

        Args:
            sources: an iterable of any length.
            batch_size: pictures and frames encoded together.
        """
        clips: list[Clip] = []
        error: MidsightError | None = None
        at, source = 0, None
        for outcome in self._embedded(sources, batch_size):
            if outcome.index > at:
                yield self._judged(source, clips, error)
                clips, error = [], None
            at, source = outcome.index, outcome.source
            if outcome.value is not None:
                clips.append(self._clip(outcome.value, outcome.start, outcome.end))
            error = outcome.error or error or (_cut(source) if outcome.short_read else None)
        if source is not None:
            yield self._judged(source, clips, error)

    def _embedded(self, sources: Iterable[Any], batch_size: int | None = None) -> Iterator[Any]:
        return self.model.iter_embed(
            sources, num_frames=self.policy.frames, segment_seconds=self.policy.segment_seconds, batch_size=batch_size
        )

    def _clip(self, embedding: Array, start: float | None, end: float | None) -> Clip:
        scores = self._scorer.scores(embedding[None])[0].tolist()
        return Clip(scores, [self._scorer.nearest(embedding, n) for n in range(len(scores))], start, end)

    def _judged(self, source: Any, clips: Sequence[Clip], error: MidsightError | None) -> Verdict:
        if error is None and not clips:
            error = MidsightError(f"{describe(source)}: nothing in it could be looked at")
        reason = None if error is None else _text(error)
        return judge(_text(describe(source)), self.policy.categories, clips, reason)


class ModerateJob:
    """Verdicts on files into one JSONL file, going on where an earlier job of the same kind stopped.

    Finished verdicts are kept at once in a journal beside the output (`NAME.partial`); the output appears whole at the
    end, and the journal goes.

    Attributes:
        total: files.
        done: files with a verdict, those of earlier runs included.
    """

    def __init__(
        self, moderator: Moderator, paths: Sequence[Path], output: Path, batch_size: int | None = None
    ) -> None:
        """
        Raises:
            InputError: the earlier job was of another model, another policy or other files.
            OutputError: the journal cannot be written.
        """
        self._moderator, self._paths, self.output = moderator, list(paths), output
        self._batch_size = batch_size
        self.journal = partial_file(output)
        self.total = len(self._paths)
        self._journal = Journal(self.journal)
        arguments = {
            "job": "moderate",
            "version": VERSION,
            "model": moderator.model.identity,
            "policy": moderator.policy.fingerprint,
            "inputs": fingerprint(self._paths),
        }
        self._check_same(arguments)
        self._records = list(self._journal.resume(arguments, "index").values())

    def _check_same(self, arguments: dict[str, Any]) -> None:
        earlier = next(iter(self._journal), arguments)
        different = [key for key in arguments if earlier.get(key) != arguments[key]]
        if different:
            raise InputError(
                f"{self.journal}: holds unfinished work of another job ({', '.join(different)} changed), which is not "
                "mixed with this. Repeat the earlier command to go on with it, or start over by deleting that file "
                "(--restart)."
            )

    def __enter__(self) -> "ModerateJob":
        return self

    def __exit__(self, *raised: object) -> None:
        self._journal.close()

    @property
    def done(self) -> int:
        return len(self._records)

    def run(self) -> Iterator[Verdict]:
        """A verdict on each file, in order: first those of an earlier run, then new ones, each kept when it comes.

        Raises:
            OutputError: the disk is full; what was finished is kept.
        """
        yield from map(from_record, self._records)
        for verdict in self._moderator.verdicts(self._paths[self.done :], self._batch_size):
            record = {"index": self.done, **verdict.record()}
            self._journal.append(record)
            self._records.append(record)
            yield verdict

    def finish(self) -> None:
        """Writes the output and removes the journal.

        Raises:
            InputError: `run` has not come to its end.
            OutputError: the output could not be written; the journal and the earlier output are intact.
        """
        if self.done < self.total:
            raise InputError(f"{self.output}: {self.total - self.done} files have no verdict yet; finish run() first")
        with atomic_write(self.output) as file:
            for record in self._records:
                file.write(json.dumps(from_record(record).record()).encode() + b"\n")
        self._journal.close()
        self.journal.unlink(missing_ok=True)


def check_calibration(model: Perception, policy: Policy) -> None:
    """Whether the policy's thresholds hold for the model.

    Raises:
        ConfigError: they were calibrated with another one.
    """
    known = policy.calibration
    if known is not None and known.identity != model.identity:
        raise ConfigError(
            f"the policy's thresholds were calibrated with {known.model}, and this is {model.name}"
            f"{' of other weights or preprocessing' if known.model == model.name else ''}: scores of another model "
            "are other numbers. Run `midsight moderate calibrate` with this model, or remove `calibration` from "
            "the policy to take the thresholds as they are."
        )


def partial_file(output: Path) -> Path:
    """Where the unfinished work for an output lies."""
    return output.with_name(output.name + ".partial")


def restart(output: Path) -> None:
    """Throws away the unfinished work for an output, if there is any.

    Raises:
        OutputError: the file is not the journal of a moderation job, another job works on it, or it cannot be removed.
    """
    path = partial_file(output)
    with Journal(path) as journal:
        first = next(iter(journal), None)
        if first is None and not path.exists():
            return
        if first is not None and first.get("job") != "moderate":
            raise OutputError(f"{path}: is not the journal of a moderation job, so it is left alone. Move it away.")
        journal.append({"removed": True})  # takes the lock: another job's journal stays
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(f"{path}: could not be removed ({error.strerror or error}).") from error


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts in a JSONL file of `midsight moderate`, finished or not.

    Raises:
        InputError: cannot be read, or a line is no verdict; the message names the line.
    """
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    if not (number == 1 and isinstance(record, dict) and record.get("job") == "moderate"):
                        found.append(from_record(record))
                except (ValueError, InputError) as error:
                    raise InputError(f"{path}: line {number}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); expected verdicts of `midsight moderate`") from None
    return found


def _cut(source: Any) -> MidsightError:
    return MediaError(f"{describe(source)}: cut or broken; the scores are of the part that can be read.")


def _text(value: object) -> str:
    """Text that every format can hold: bytes of a name that are not UTF-8 become escapes."""
    return os.fsencode(str(value)).decode("utf-8", "backslashreplace")
