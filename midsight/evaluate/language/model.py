"""A PerceptionLM as an answerer: tiles of a picture, squashed frames of a video or of several pictures, greedy."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight.api.loading import fixed_threads, pick_device
from midsight.errors import CheckpointError, ConfigError, InputError
from midsight.images import load_image
from midsight.plm import PLM
from midsight.plm.chat import ask, chat_format
from midsight.threads import settle
from midsight.transforms.tiling import tile_pixels
from midsight.video import VIDEO_SUFFIXES, open_frames, plm_indices, probe

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


class PLMAnswerer:
    """Answers of a PLM, always the most likely tokens.

    Attributes:
        model: the PLM.
        max_new_tokens: longest answer.
    """

    def __init__(self, model: PLM, max_new_tokens: int = 256) -> None:
        if model.tokenizer is None:
            raise CheckpointError(
                "the model has no tokenizer: expected tokenizer.json or tokenizer.model in its folder"
            )
        self.model, self.max_new_tokens = model, max_new_tokens
        self._tokenizer = model.tokenizer
        self._chat = chat_format(model.tokenizer, model.config.image_token_id)

    @torch.inference_mode()
    def answer(self, media: Sequence[Any], question: str) -> str:
        """The answer to a question about one picture (tiled), several (squashed) or a video.

        Args:
            media: paths of pictures or of a video, or pictures as `load_image` takes them.

        Raises:
            MediaError: a file cannot be read.
            InputError: no media, or question and answer do not fit into the model.
        """
        tiles = self._tiles(media)  # n, 3, tile, tile
        ids = ask(self._chat, question, [len(tiles) * self.model.config.tokens_per_tile])
        room = self.model.config.context_length - len(ids)
        if room < 1:
            raise InputError(
                f"the question has {len(ids)} tokens with its {len(tiles)} tiles or frames, but the model takes "
                f"{self.model.config.context_length}"
            )
        device = self.model.device
        new = self.model.generate(
            torch.tensor([ids], device=device), tiles.to(device), max_new_tokens=min(room, self.max_new_tokens)
        )
        ends = set(self.model.config.stop_token_ids)
        return self._tokenizer.decode([token for token in new[0].tolist() if token not in ends]).strip()

    def _tiles(self, media: Sequence[Any]) -> Tensor:
        config = self.model.config
        if not media:
            raise InputError("a question needs a picture or a video")
        if len(media) == 1 and not is_video(media[0]):
            return tile_pixels(load_image(media[0]), config.max_tiles, config.tile, config.max_tiles > 1)
        squashed = [
            tile_pixels(pixels, 1, config.tile, thumbnail=False)
            for one in media
            for pixels in (self._frames(Path(one)) if is_video(one) else [load_image(one)])
        ]
        return torch.cat(squashed)

    def _frames(self, video: Path) -> Iterator[Any]:
        info = probe(video)
        chosen = set(plm_indices(info.frames, info.fps, self.model.config.max_frames))
        with open_frames(video) as frames:
            yield from (frame.pixels for frame in frames if frame.index in chosen)


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


def is_video(source: Any) -> bool:
    """Whether a source is the path of a video, by its name."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in VIDEO_SUFFIXES
