"""Teachers of distillation: a larger PE, or anything that embeds images and texts (PE paper, sections 2.4 and C.3)."""

import importlib
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight import pe
from midsight.checkpoints import open_pretrained
from midsight.errors import ConfigError
from midsight.train.config import LossConfig

Teacher = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # media, token ids -> features (B, E) of both
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*:.*")


class PairTeacher:
    """A frozen `pe.CLIP` that sees the student's batch at its own resolution.

    The student's token ids are the teacher's, for all PE models share one vocabulary; images are resampled bilinearly.
    Any callable of the same signature is a teacher.
    """

    def __init__(self, model: pe.CLIP) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, media: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) or clips (B, T, 3, S, S) and token ids (B, L) to features (B, E) of both."""
        size = self.model.image_size
        flat = media.flatten(0, -4) if media.ndim == 5 else media
        if flat.shape[-1] != size:
            flat = F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        images = self.model.encode_image(flat)
        if media.ndim == 5:
            images = images.unflatten(0, media.shape[:2]).mean(dim=1)
        return images, self.model.encode_text(texts)


def open_teacher(source: str, device: torch.device, context_length: int) -> Teacher:
    """A teacher from a published name, folder, checkpoint or repository, or one of the user's own.

    Args:
        source: the above; or `module:function:argument`, a function of an importable module that is called with the
            argument (a text), the device and the student's context length, and returns a teacher.

    Raises:
        ConfigError: it has no text tower, reads fewer tokens than the student, or there is no such function.
        CheckpointError, UnknownModelError: its weights cannot be had.
    """
    if _OWN.fullmatch(source):
        return _own_teacher(source, device, context_length)
    found = open_pretrained(source)
    if found.text is None:
        raise ConfigError(f"loss.teacher: {source} has no text tower; name a pair such as PE-Core-G14-448")
    if found.text.context_length < context_length:
        raise ConfigError(
            f"loss.teacher: {source} reads {found.text.context_length} tokens, the student {context_length}; "
            "lower model.text.context_length"
        )
    model = pe.CLIP(found.vision, found.text)
    model.load_state_dict(found.state_dict)
    return PairTeacher(model.to(device))


def _own_teacher(source: str, device: torch.device, context_length: int) -> Teacher:
    module, name, argument = source.split(":", 2)
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"loss.teacher: {module}:{name} cannot be imported ({error}); expected module:function:argument"
        ) from error
    if not callable(function):
        raise ConfigError(f"loss.teacher: {module}:{name} is no function; expected module:function:argument")
    teacher: Teacher = function(argument, device, context_length)
    return teacher


def check_widths(config: LossConfig, images: int, texts: int, student: int) -> None:
    """Whether a teacher of these widths can give what the losses take from it.

    Raises:
        ConfigError: its embeddings are to be the student's, and are of another width.
    """
    for setting, used, width in (
        ("teacher_texts", config.teacher_texts, texts),
        ("teacher_features", config.teacher_features > 0, images),
    ):
        if used and width != student:
            raise ConfigError(
                f"loss.{setting}: the teacher's embeddings have {width} dimensions and the student's {student}; take "
                f"a teacher of the student's width, or leave loss.{setting} out"
            )
