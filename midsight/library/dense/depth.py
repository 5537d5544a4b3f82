"""What `midsight depth` writes: depth in millimetres, and depth as colours."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.images.labels import write_depth
from midsight.library.dense.drawn import clear_frames, drawn, drawn_name, frame_name, place
from midsight.library.dense.job import Add
from midsight.library.dense.plan import Item
from midsight.tasks.draw import depth_range, draw_depth
from midsight.video import TimedFrame

DEPTH, COLOURS = "depth", "colours"
Metres = npt.NDArray[np.float32]
Scale = tuple[float, float]  # near and far, metres

_STEADY = 0.9  # of a video's scale is kept from frame to frame: colours must not flicker


class DepthResults:
    """depth/NAME.png in millimetres, colours/NAME.png or .mp4; with `maps`, depth/NAME/000000.png for videos."""

    task = "depth"
    folders = (DEPTH, COLOURS)

    def __init__(
        self,
        out: Path,
        *,
        overlay: bool = True,
        maps: bool = False,
        near: float | None = None,
        far: float | None = None,
    ) -> None:
        """
        Args:
            overlay: write the colours.
            near, far: ends of their scale, metres; None: the 1st and 99th percentile of each picture, and for videos
                these, changing slowly.

        Raises:
            InputError: far is not behind near.
        """
        if (near is not None and near < 0) or (far is not None and far <= (near or 0)):
            raise InputError(f"near must be at least 0 m and far beyond it, got {near} and {far}")
        self.out, self._overlay, self._maps, self._near, self._far = out, overlay, maps, near, far

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"near": self._near, "far": self._far}

    def files(self, item: Item) -> list[str]:
        """The main results of an input."""
        found = [drawn_name(COLOURS, item)] if self._overlay else []
        if item.kind == "picture":
            return [*found, f"{DEPTH}/{item.name}.png"]
        return [*found, f"{DEPTH}/{item.name}"] if self._maps else found

    @contextmanager
    def open(self, item: Item) -> Iterator[Add[Metres]]:
        """Takes the depth maps of one input."""
        clear_frames(self.out, DEPTH, item)
        scale_of = self._scales()
        with drawn(self.out, COLOURS, item, self._overlay) as draw:

            def add(frame: TimedFrame, metres: Metres) -> None:
                if item.kind == "picture":
                    write_depth(place(self.out, f"{DEPTH}/{item.name}.png"), metres)
                elif self._maps:
                    write_depth(place(self.out, frame_name(DEPTH, item, frame)), metres)
                draw(frame, lambda: draw_depth(metres, scale_of(metres)))

            yield add

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Nothing belongs to all inputs together."""

    def _scales(self) -> Callable[[Metres], Scale | None]:
        """A function that gives the scale of each next frame."""
        before: Scale | None = None

        def scale_of(metres: Metres) -> Scale | None:
            """Metres of the first and the last colour; None where nothing is known."""
            nonlocal before
            found = depth_range(metres)
            if found is None:
                return None
            if before is not None:
                found = _mixed(before[0], found[0]), _mixed(before[1], found[1])
            before = found
            near = found[0] if self._near is None else self._near
            return near, max(near, found[1] if self._far is None else self._far)

        return scale_of


def _mixed(before: float, now: float) -> float:
    return _STEADY * before + (1 - _STEADY) * now
