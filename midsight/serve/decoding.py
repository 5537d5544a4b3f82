"""Files of requests to pixels, in a few threads, within limits that are looked at before anything is decoded."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from midsight import video
from midsight.configs import PreprocessConfig
from midsight.errors import MidsightError
from midsight.serve.errors import ApiError
from midsight.serve.inputs import File
from midsight.serve.limits import EncoderLimits
from midsight.transforms.image import ImageTransform, from_config
from midsight.video import MediaWarning


def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that decode, each on one CPU."""
    return ThreadPoolExecutor(threads, "midsight-decode", initializer=torch.set_num_threads, initargs=(1,))


class Decoder:
    """Files to pixels for one model. Safe to use from several threads.

    Args:
        preprocess: the model's.
        limits: what a file may cost.
    """

    def __init__(self, preprocess: PreprocessConfig, limits: EncoderLimits) -> None:
        self._limits = limits
        self._transform: ImageTransform = from_config(preprocess, limits=limits.images)

    def pixels(self, file: File, num_frames: int) -> Tensor:
        """A picture as uint8 (3, S, S), a video as (T, 3, S, S).

        Raises:
            ApiError: 400, cut, broken, or beyond a limit.
        """
        try:
            return self._video(file, num_frames) if file.is_video else self._transform.pixels(file.data)
        except (MidsightError, MediaWarning) as error:
            raise _unreadable(file, str(error)) from None
        except MemoryError:
            raise _unreadable(file, "there is not enough memory to decode it") from None

    def _video(self, file: File, num_frames: int) -> Tensor:
        limits = self._limits.videos(num_frames)
        info = video.probe(file.data, limits=limits)
        if info.short_read:
            raise _unreadable(file, "cut or broken: a part of it is missing")
        clip = video.sample_frames(file.data, num_frames, limits=limits)
        return torch.stack([self._transform.pixels(frame) for frame in clip.frames])


def _unreadable(file: File, reason: str) -> ApiError:
    reason = reason.partition(" Raise ")[0]  # what a programmer could do; a client cannot
    reason = reason.removeprefix(f"<{len(file.data)} bytes>: ")
    code = "image_too_large" if "limit" in reason else "invalid_image"
    what = "video" if file.is_video else "picture"
    return ApiError(400, f"{file.place}: the {what} cannot be read: {reason}", code, file.place)
