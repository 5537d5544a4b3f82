"""A PerceptionLM that is asked the questions of a benchmark."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midsight.api.language import open_plm
from midsight.api.loading import fixed_threads
from midsight.plm import PLM
from midsight.plm.answer import AnswerConfig, Answerer, Page
from midsight.threads import settle


class PLMAnswerer:
    """Answers of a PLM; media that several questions in a row are about are read once.

    Attributes:
        model: the PLM.
        config: how answers are made; may be changed between questions.
    """

    def __init__(self, model: PLM, config: AnswerConfig = AnswerConfig()) -> None:  # noqa: B008 (frozen)
        self.model, self.config = model, config
        self._answerer = Answerer(model, config)
        self._paths: list[str] | None = None  # of the page
        self._page: Page | None = None

    def answer(self, media: Sequence[Any], question: str) -> str:
        """The answer to a question about pictures or a video, without white space around it.

        Args:
            media: paths, or pictures as `load_image` takes them.

        Raises:
            MediaError: a file cannot be read.
            InputError: the question does not fit into the model.
            KeyboardInterrupt: Ctrl-C; half an answer is none here.
        """
        self._answerer.config = self.config
        found = self._answerer.answer(question, self._read(media))
        if found.why == "interrupted":
            raise KeyboardInterrupt
        return found.text.strip()

    def _read(self, media: Sequence[Any]) -> Page:
        paths = [str(one) for one in media] if all(isinstance(one, str | os.PathLike) for one in media) else None
        if self._page is None or paths is None or paths != self._paths:
            self._paths, self._page = None, None  # the old one's memory goes first
            self._page = self._answerer.read(media)
            self._paths = paths
        return self._page


def open_answerer(
    source: str | Path,
    max_new_tokens: int = 256,
    device: str = "auto",
    dtype: str = "auto",
    *,
    revision: str | None = None,
    threads: int | None = None,
) -> PLMAnswerer:
    """A PLM from a folder or a repository, ready to answer with the most likely tokens.

    Args:
        source, device, dtype, revision: as `open_plm`.
        threads: CPU threads; None follows the machine.

    Raises:
        CheckpointError: the model cannot be loaded, or has no tokenizer.
        ConfigError: a device or dtype that cannot be.
    """
    settle(fixed_threads(threads))
    model = open_plm(source, device, dtype, revision=revision)
    return PLMAnswerer(model, AnswerConfig(max_new_tokens=max_new_tokens))
