"""What is said of one file: a verdict and a score for each category, with the stretches of a video that it is from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from midsight.errors import InputError
from midsight.library.moderate.policy import Category

Word = Literal["flag", "review", "pass", "error"]
WORDS: tuple[Word, ...] = ("flag", "error", "review", "pass")  # the first that holds of a file is its verdict


@dataclass(frozen=True)
class Stretch:
    """A part of a video, in seconds, and its best score."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Finding:
    """What is said of one file and one category."""

    category: str
    verdict: Word
    score: float  # of a video: that of its best clip
    threshold: float
    review: float | None
    by: str  # the prompt that the score comes from, or "example" and a file's name
    ranges: tuple[Stretch, ...] = ()  # of a video: where the score is not one that passes, in order


@dataclass(frozen=True)
class Verdict:
    """What is said of one file.

    Attributes:
        path: the file; bytes that are not UTF-8 are written as escapes.
        verdict: the gravest of all categories'; "error" for a file that could not be read to its end, unless what could
            be read is flagged.
        findings: one for each category, in the policy's order; none where nothing could be read.
        error: why it could not be read.
    """

    path: str
    verdict: Word
    findings: tuple[Finding, ...] = ()
    error: str | None = None

    @property
    def top(self) -> Finding | None:
        """The finding that matters most: by verdict, then by how far the score is above the threshold."""
        key = lambda finding: (-WORDS.index(finding.verdict), finding.score / finding.threshold)  # noqa: E731
        return max(self.findings, key=key, default=None)

    def record(self) -> dict[str, Any]:
        """As JSON; `from_record` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class Clip:
    """One clip of a video, or a picture, with its scores and where each comes from."""

    scores: Sequence[float]  # one for each category
    by: Sequence[str]
    start: float | None = None
    end: float | None = None


def judge(path: str, categories: Sequence[Category], clips: Sequence[Clip], error: str | None = None) -> Verdict:
    """The verdict on one file by its clips, in order; a picture has one."""
    findings = tuple(_finding(category, n, clips) for n, category in enumerate(categories)) if clips else ()
    words = {finding.verdict for finding in findings} | ({"error"} if error is not None else set())
    return Verdict(path, next(word for word in WORDS if word in words), findings, error)


def _finding(category: Category, number: int, clips: Sequence[Clip]) -> Finding:
    best = max(clips, key=lambda clip: clip.scores[number])
    score = float(best.scores[number])
    ranges = tuple(_joined(_stretches(category, number, clips)))
    return Finding(
        category.name, word_of(score, category), score, category.threshold, category.review, best.by[number], ranges
    )


def word_of(score: float, category: Category) -> Word:
    """What a score means for a category."""
    if score >= category.threshold:
        return "flag"
    return "review" if score >= category.lowest else "pass"


def _stretches(category: Category, number: int, clips: Iterable[Clip]) -> Iterator[Stretch]:
    for clip in clips:
        score = float(clip.scores[number])
        if clip.start is not None and clip.end is not None and score >= category.lowest:
            yield Stretch(clip.start, clip.end, score)


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Stretches that touch as one, with the best score of both."""
    waiting: Stretch | None = None
    for one in stretches:
        if waiting is not None and one.start <= waiting.end + 1e-3:
            waiting = Stretch(waiting.start, one.end, max(waiting.score, one.score))
            continue
        if waiting is not None:
            yield waiting
        waiting = one
    if waiting is not None:
        yield waiting


def from_record(record: Mapping[str, Any]) -> Verdict:
    """A verdict from its record.

    Raises:
        InputError: not one; the message says what is missing.
    """
    try:
        findings = tuple(
            Finding(**{**finding, "ranges": tuple(Stretch(**one) for one in finding["ranges"])})
            for finding in record["findings"]
        )
        found = Verdict(str(record["path"]), record["verdict"], findings, record["error"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a verdict of `midsight moderate` ({type(error).__name__}: {error})") from None
    if found.verdict not in WORDS:
        raise InputError(f"not a verdict of `midsight moderate` ({found.verdict!r} is none of {', '.join(WORDS)})")
    return found


def clock(seconds: float) -> str:
    """Seconds as people write times: 0:05.3, 1:02:03."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    end = f"{rest:04.1f}".removesuffix(".0")
    return f"{hours}:{minutes:02d}:{end}" if hours else f"{minutes}:{end}"
