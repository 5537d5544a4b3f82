"""Points of a clip's first frame, looked for in its last one: at tokens' centres, and between them.

python -m midsight.evaluate.points [--clips runs/spatial/clips] [--model embedded-spatial] [--size 448]

Prints the share of points that are found within parts of the picture's side, with 95 % intervals over clips.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from midsight.api import dense_encoder, load
from midsight.errors import MidsightError
from midsight.evaluate.scene_probes import Answer, Figures, SceneVideo, interval, read_videos
from midsight.tasks.correspondence import find_points
from midsight.tasks.features import DenseEncoder
from midsight.tasks.look import token_centres
from midsight.tasks.similarity import nearest

REACHES = (0.1, 0.05, 0.02)  # of the picture's side
WAYS = ("centre of the most alike token", "between tokens")


def main() -> int:
    """Exit code: 0, or 1 where clips or model cannot be had."""
    parser = argparse.ArgumentParser(
        "python -m midsight.evaluate.points", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=Path("runs/spatial/clips"), help="shards of rendered clips")
    parser.add_argument("--model", default="embedded-spatial", help="name, folder or checkpoint")
    parser.add_argument("--size", type=int, default=448, help="side of the encoder's input, pixels")
    given = parser.parse_args()
    try:
        encoder = dense_encoder(load(given.model, "cpu", threads=1))
        found = [measure(video, encoder, given.size) for video in read_videos(given.clips)]
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(table({way: np.stack([one[way] for one in found]) for way in WAYS}) + "\n")
    return 0


def measure(video: SceneVideo, encoder: DenseEncoder, size: int) -> dict[str, Figures]:
    """For each way how many points are within each of `REACHES`, and how many there are, (reaches + 1,)."""
    side = video.frames.shape[1]
    seen = torch.from_numpy(video.visible[0] & video.visible[-1])
    start, end = (torch.from_numpy(video.points[k])[seen] for k in (0, -1))  # P, 2
    inside = ((start >= 0) & (start < side)).all(dim=1)
    start, end = start[inside], end[inside]
    if not len(start):
        return {way: np.zeros(len(REACHES) + 1) for way in WAYS}
    first, last = (encoder(encoder.images(video.frames[k], size, size)[None])[0][0] for k in (0, -1))
    between = find_points([(x, y) for x, y in start.tolist()], first, last, (side, side), (side, side)).b
    return {WAYS[0]: _right(_centres(start, first, last, side), end, side), WAYS[1]: _right(between, end, side)}


def table(rows: Mapping[str, Figures]) -> str:
    """Markdown: a row for each way, a column for each reach, percent."""
    points = int(next(iter(rows.values()))[:, -1].sum())
    lines = [f"| {points} points of {len(rows[WAYS[0]])} clips | " + " | ".join(f"{r:g}" for r in REACHES) + " |"]
    lines.append("|---" * (len(REACHES) + 1) + "|")
    for way, values in rows.items():
        answers = [Answer(values[:, [k, -1]], _share) for k in range(len(REACHES))]
        cells = ["{:.1f} ({:.1f} to {:.1f})".format(one.value, *interval(one)) for one in answers]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _centres(start: Tensor, first: Tensor, last: Tensor, side: int) -> Tensor:
    """The centre (P, 2) of the token of `last` that is most like the token each point lies in."""
    rows, columns = first.shape[1:]
    tokens = (start[:, 1] * rows / side).long() * columns + (start[:, 0] * columns / side).long()
    there = nearest(first.flatten(1).T[tokens], last.flatten(1).T, k=1)[1][:, 0]
    return token_centres(there, (last.shape[1], last.shape[2]), (side, side))


def _right(found: Tensor, end: Tensor, side: int) -> Figures:
    far = (found - end).norm(dim=1) / side
    return np.array([*(float((far <= reach).sum()) for reach in REACHES), float(len(end))])


def _share(rows: Figures) -> float:
    return 100 * float(rows[:, 0].sum() / max(rows[:, 1].sum(), 1.0))


if __name__ == "__main__":
    sys.exit(main())
