"""Which frames of a video are looked at: the published rules, on a length alone."""

from midsight.errors import InputError


def uniform_indices(total: int, n: int) -> list[int]:
    """`n` frames over the whole length, first and last included; the middle one for n = 1.

    Positions are cut down to whole frames. A video shorter than `n` repeats frames.

    Raises:
        InputError: `total` or `n` below 1.

    Source: the published zero-shot evaluation.
    """
    _at_least_one(total=total, n=n)
    if n == 1:
        return [total // 2]
    return [int(i * (total - 1) / (n - 1)) for i in range(n)]


def plm_indices(
    total: int, fps: float, max_frames: int, start: float | None = None, end: float | None = None
) -> list[int]:
    """About one frame a second, at most `max_frames`, as PerceptionLM looks at videos.

    Too many are thinned out evenly; fewer than `max_frames` are replaced by an even choice over all frames.

    Args:
        total: frames of the video.
        fps: frames a second.
        max_frames: most indices.
        start, end: the part of the video, seconds; the other way round is turned round, past the end is cut off.

    Raises:
        InputError: `total` or `max_frames` below 1, or `fps` not above 0.

    Source: the published video transform of PerceptionLM; Python's rounding (half to even) decides.
    """
    _at_least_one(total=total, max_frames=max_frames)
    if not fps > 0:
        raise InputError(f"fps must be above 0, got {fps}")
    first = 0 if start is None else int(start * fps)
    last = total - 1 if end is None else int(end * fps)
    first, last = sorted((min(max(first, 0), total - 1), min(max(last, 0), total - 1)))
    frames = list(range(first, last + 1, max(1, round(fps))))
    if len(frames) < max_frames:
        frames = list(range(first, last + 1))
    return [frames[i] for i in _thinned(len(frames), max_frames)]


def _thinned(length: int, most: int) -> list[int]:
    """At most `most` of the positions 0 ... length - 1, ends included, rounded."""
    if length <= most:
        return list(range(length))
    if most == 1:
        return [0]
    return [round(i * (length - 1) / (most - 1)) for i in range(most)]


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
