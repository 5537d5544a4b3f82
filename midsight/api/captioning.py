"""A PerceptionLM as the captioner of the video data engine: it is asked about each frame, and about the whole clip."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midsight.api.language import open_plm
from midsight.checkpoints import identity
from midsight.configs import PreprocessConfig
from midsight.data.samples import Sample
from midsight.errors import ConfigError, InputError
from midsight.plm import PLM
from midsight.plm.answer import AnswerConfig, Answerer, Ask
from midsight.plm.media import MediaLimits
from midsight.video import Clip
from midsight.video.indices import uniform_indices


@dataclass(frozen=True)
class CaptionConfig:
    """What is asked, and how much may be said.

    Attributes:
        frames_at_once: frames of a clip that are answered together.
    """

    frame_prompt: str = "Describe this picture in one plain sentence. Say only what can be seen."
    clip_prompt: str = (
        "These are frames of one video, in order. Describe in one or two plain sentences what is seen and what happens."
    )
    max_new_tokens: int = 96
    frames_at_once: int = 8

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.frames_at_once < 1:
            raise ConfigError(
                "max_new_tokens and frames_at_once must be at least 1, got "
                f"{self.max_new_tokens} and {self.frames_at_once}"
            )


class PLMCaptioner:
    """Captions by a PLM, always the most likely words: the same clip gets the same captions.

    A frame is one tile. A clip is its frames in order, each one tile, as videos are read; where there are more than the
    model's `max_frames`, evenly spaced ones.
    """

    def __init__(self, model: PLM, name: str, config: CaptionConfig = CaptionConfig()) -> None:  # noqa: B008 (frozen)
        """
        Args:
            model: one that sees.
            name: for people; a hash of the weights and of `config` goes beside it.

        Raises:
            InputError: a language model alone.
            CheckpointError: the model has no tokenizer.
        """
        if model.config.vision is None:
            raise InputError(f"{name}: is a language model alone and sees no frames. Give a PLM with a vision tower.")
        self._config = config
        answers = AnswerConfig(max_new_tokens=config.max_new_tokens, media=MediaLimits(max_tiles=1))
        self._answerer = Answerer(model, answers)
        weights = identity(model.state_dict(), PreprocessConfig(model.config.tile))
        asked = hashlib.sha256(f"{config.frame_prompt}\n{config.clip_prompt}\n{config.max_new_tokens}".encode())
        self.name = f"{name}, weights {weights[:16]}, prompts {asked.hexdigest()[:8]}"

    def frames(self, sample: Sample, clip: Clip) -> Sequence[str]:
        """One caption for each of the T frames."""
        said: list[str] = []
        for start in range(0, len(clip.frames), self._config.frames_at_once):
            some = clip.frames[start : start + self._config.frames_at_once]
            said += self._said([Ask(self._config.frame_prompt, [frame]) for frame in some])
        return said

    def clip(self, sample: Sample, clip: Clip) -> str:
        """What happens, by all frames together."""
        count = min(len(clip.frames), self._answerer.model.config.max_frames)
        chosen = [clip.frames[n] for n in uniform_indices(len(clip.frames), count)]
        return self._said([Ask(self._config.clip_prompt, chosen)])[0]

    def _said(self, asks: Sequence[Ask]) -> list[str]:
        return [answer.text.strip() for answer in self._answerer.answer_batch(asks)]


def open_captioner(source: str, device: str = "auto", dtype: str = "auto") -> PLMCaptioner:
    """The PLM in a folder or a Hugging Face repository as a captioner.

    Raises:
        InputError: no source, or a language model alone.
        CheckpointError: it cannot be loaded.
        ConfigError: a device or dtype that cannot be.
    """
    if not source:
        raise InputError(
            "plm: names no model; write plm:FOLDER, or plm:REPOSITORY such as plm:facebook/Perception-LM-1B"
        )
    return PLMCaptioner(open_plm(source, device, dtype), f"PLM {Path(source).name}")
