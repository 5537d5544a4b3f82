"""The model class for lmms-eval, on CPU or GPU. Only lmms-eval imports this module.

Answers are greedy whatever a task's settings say, end where one of the task's `until` would stand, and lose a full stop
at the end, as those of lmms-eval's own `plm`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmms_eval.api.model import lmms
from PIL import Image

from midsight.errors import InputError
from midsight.evaluate.language.model import open_answerer
from midsight.evaluate.language.tasks import tidy

MAX_NEW_TOKENS = 256  # where a task does not say


class MidsightPLM(lmms):  # type: ignore[misc]  # lmms-eval carries no types
    """A PLM of midsight.

    Args:
        pretrained: folder or Hugging Face repository.
        device: auto, cpu, cuda, cuda:1.
        dtype: auto, fp32, bf16.
        revision: branch, tag or commit of the repository.
        batch_size: 1; lmms-eval passes it.
        max_batch_size: lmms-eval passes it; has no meaning here.
    """

    def __init__(
        self,
        pretrained: str,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if int(batch_size) != 1:
            raise InputError(f"midsight_plm answers one question at a time; batch_size must be 1, got {batch_size}")
        self._answerer = open_answerer(pretrained, MAX_NEW_TOKENS, device, dtype, revision=revision)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One answer to each request, in order."""
        return [self._answer(*request.args) for request in requests]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered."""
        raise NotImplementedError("midsight_plm generates answers; tasks that need likelihoods are not offered")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered."""
        raise NotImplementedError("midsight_plm answers in one round")

    def _answer(self, context: str, settings: dict[str, Any], to_media: Any, number: int, task: str, split: str) -> str:
        media = flat(to_media(self.task_dict[task][split][number]))
        until = settings.get("until") or ()
        stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
        most = int(settings.get("max_new_tokens", MAX_NEW_TOKENS))
        self._answerer.config = replace(self._answerer.config, max_new_tokens=most, stop=stop)
        answer = tidy(self._answerer.answer(media, context))
        self.cache_hook.add_partial("generate_until", (context, settings), answer)
        return answer


def flat(media: Any) -> list[Any]:
    """Pictures and paths in order, whatever lists a task puts them in."""
    if isinstance(media, list | tuple):
        return [one for some in media for one in flat(some)]
    return [media.convert("RGB") if isinstance(media, Image.Image) else media]
