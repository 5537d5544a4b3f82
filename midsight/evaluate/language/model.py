"""A PerceptionLM as an answerer: tiles of a picture, squashed frames of a video or of several pictures, greedy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from midsight.api.loading import fixed_threads, pick_device
from midsight.errors import ConfigError, InputError
from midsight.plm import PLM
from midsight.plm.answer import Answerer
from midsight.threads import settle

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


class PLMAnswerer:
    """Answers of a PLM, always the most likely tokens.

    Attributes:
        model: the PLM.
        max_new_tokens: longest answer.

    Raises:
        CheckpointError: the model has no tokenizer, or none with the marks of a chat.
    """

    def __init__(self, model: PLM, max_new_tokens: int = 256) -> None:
        self.model, self.max_new_tokens = model, max_new_tokens
        self._answerer = Answerer(model)

    def answer(self, media: Sequence[Any], question: str) -> str:
        """The answer to a question about one picture (tiled), several (squashed) or a video.

        Args:
            media: paths of pictures or of a video, or pictures as `load_image` takes them.

        Raises:
            MediaError: a file cannot be read.
            InputError: no media, or the prompt does not fit into the model.
        """
        if not media:
            raise InputError("a question needs a picture or a video")
        self._answerer.config = replace(self._answerer.config, max_new_tokens=self.max_new_tokens)
        found = self._answerer.answer(question, media)
        if found.why == "interrupted":
            raise KeyboardInterrupt  # half an answer must not be scored
        return found.text.strip()


def open_answerer(
    source: str | Path,
    max_new_tokens: int = 256,
    device: str = "auto",
    dtype: str = "auto",
    *,
    revision: str | None = None,
    threads: int | None = None,
) -> PLMAnswerer:
    """A PLM from a folder or a repository, ready to answer.

    Args:
        source, revision: as `PLM.from_pretrained`.
        device: "auto" takes the best that is there.
        dtype: "fp32", "bf16"; "auto" is fp32 on the CPU and the stored one elsewhere.
        threads: CPU threads; None follows the machine.

    Raises:
        CheckpointError: the model cannot be loaded, or has no tokenizer.
        ConfigError: a device or dtype that cannot be.
    """
    where = pick_device(device)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be {', '.join(DTYPES)}, got {dtype!r}")
    wanted = torch.float32 if dtype == "auto" and where.type == "cpu" else DTYPES[dtype]
    settle(fixed_threads(threads))
    return PLMAnswerer(PLM.from_pretrained(source, dtype=wanted, device=where, revision=revision), max_new_tokens)
