"""What alignment does: the start's last and best layer beside the result's last one, on four dense questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from midsight.checkpoints import Pretrained, open_pretrained
from midsight.evaluate import scene_probes as probes
from midsight.evaluate.scene_probes import Answer, ProbeConfig
from midsight.images import Pixels
from midsight.pe.headless import headless
from midsight.transforms.image import ImageTransform

TASKS = ("segmentation", "tracking", "depth", "correspondence")
UNITS = {"segmentation": "mIoU", "tracking": "J&F", "depth": "RMSE, m", "correspondence": "PCK@0.1"}
LESS_IS_BETTER = ("depth",)
_AT_ONCE = 8  # pictures

Maps = list[Tensor]  # of each layer, float (N, C, h, w)
Answers = Mapping[str, Answer]


@dataclass(frozen=True)
class Asked:
    """All scenes of one measuring."""

    kinds: tuple[str, ...]
    probe: Sequence[probes.ScenePicture]
    test: Sequence[probes.ScenePicture]
    videos: Sequence[probes.SceneVideo]


def read(root: Path, config: ProbeConfig, clips: int) -> Asked:
    """The held-out scenes of `midsight.train.embedded_spatial.scenes`."""
    kinds = probes.kinds(root / "probe")
    probe, test = (probes.read_pictures(root / name, kinds, config) for name in ("probe", "test"))
    return Asked(kinds, probe, test, list(probes.read_videos(root / "clips"))[:clips])


def layers_of(source: str | Path, asked: Asked, config: ProbeConfig, seed: int = 0) -> list[Answers]:
    """The answers of each layer of an encoder, the trunk of an embedded one first.

    Args:
        source: whatever `open_pretrained` takes.
    """
    found = open_pretrained(source, dtype=torch.float32)
    size = asked.probe[0].pixels.shape[0]
    look = encoder(found, size)
    sets = [look([one.pixels for one in part]) for part in (asked.probe, asked.test)]
    videos = [look(list(video.frames)) for video in asked.videos]
    classes = len(asked.kinds) + 1
    answers: list[Answers] = []
    for layer in range(len(sets[0])):
        train, test = (maps[layer] for maps in sets)
        clips = [maps[layer] for maps in videos]
        answers.append(
            {
                "segmentation": probes.segmentation(train, asked.probe, test, asked.test, classes, config, seed),
                "depth": probes.depth(train, asked.probe, test, asked.test, config),
                "tracking": probes.tracking(clips, asked.videos),
                "correspondence": probes.correspondence(clips, asked.videos, config),
            }
        )
    return answers


def encoder(found: Pretrained, size: int) -> Callable[[Sequence[Pixels]], Maps]:
    """Pictures of `size` x `size` pixels to the maps of every layer, the trunk's first where there is one."""
    tower = headless(found, size).eval().requires_grad_(False)
    transform = ImageTransform(replace(found.preprocess, image_size=size))
    trunk: list[Tensor] = []
    if found.vision.stem != "patch":
        tower.stem.register_forward_hook(lambda _, __, out: trunk.append(out))

    @torch.inference_mode()
    def look(pictures: Sequence[Pixels]) -> Maps:
        parts: list[Maps] = []
        for start in range(0, len(pictures), _AT_ONCE):
            batch = torch.stack([transform(picture) for picture in pictures[start : start + _AT_ONCE]])
            trunk.clear()
            maps = tower.forward_intermediates(batch, list(range(tower.layers)), as_maps=True)
            parts.append([*trunk, *maps])
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    return look


def best_layer(answers: Sequence[Answers], task: str) -> int:
    """The layer with the best figure. It is chosen on the scenes it is measured on, so its figure is a bit too good."""
    values = [one[task].value for one in answers]
    return values.index(min(values) if task in LESS_IS_BETTER else max(values))


def table(core: Sequence[Answers], spatial: Sequence[Answers], trunk: bool) -> str:
    """Markdown: rows of encoders, columns of questions, 95 % intervals over scenes, and the difference to the start."""
    layers = core[1:] if trunk else core
    rows = {"core, last layer": layers[-1]}
    rows["core, best layer"] = {task: layers[best_layer(layers, task)][task] for task in TASKS}
    rows["**spatial, last layer**"] = spatial[-1]
    if trunk:
        rows = {"the packaged trunk alone": core[0]} | rows
    lines = ["| | " + " | ".join(f"{task} ({UNITS[task]})" for task in TASKS) + " |", "|---" * (len(TASKS) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(_cell(one[task], task) for task in TASKS) + " |" for name, one in rows.items()
    ]
    for name, other in (("last", rows["core, last layer"]), ("best", rows["core, best layer"])):
        cells = [_change(spatial[-1][task], other[task], task) for task in TASKS]
        lines.append(f"| spatial's last minus core's {name} | " + " | ".join(cells) + " |")
    best = ", ".join(f"{task} {best_layer(layers, task) + 1} of {len(layers)}" for task in TASKS)
    return "\n".join([*lines, "", f"Core's best layers: {best}."])


def _cell(answer: Answer, task: str) -> str:
    low, high = probes.interval(answer)
    digits = 2 if task in LESS_IS_BETTER else 1
    return f"{answer.value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _change(ours: Answer, theirs: Answer, task: str) -> str:
    value, low, high = probes.difference(ours, theirs)
    digits = 2 if task in LESS_IS_BETTER else 1
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def has_trunk(source: str | Path) -> bool:
    """Whether an encoder's patches come from a packaged trunk."""
    return open_pretrained(source).vision.stem != "patch"
