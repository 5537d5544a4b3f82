"""Files of requests to pixels, in a few threads, within limits that are looked at before anything is decoded."""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from midsight import video
from midsight.configs import PreprocessConfig
from midsight.errors import InputError, MidsightError
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
        """uint8 (T, 3, S, S); a picture is one frame.

        Raises:
            ApiError: 400, cut, broken, or beyond a limit.
        """
        try:
            return self._video(file, num_frames) if file.is_video else self._transform.pixels(file.data)[None]
        except (MidsightError, MediaWarning) as error:
            raise _unreadable(file, str(error)) from None
        except MemoryError:
            raise _unreadable(file, "there is not enough memory to decode it") from None

    def _video(self, file: File, num_frames: int) -> Tensor:
        limits = self._limits.videos(num_frames)
        info = video.probe(file.data, limits=limits)
        if info.short_read:
            raise _unreadable(file, "cut or broken: a part of it is missing")
        start, end = file.stretch or (None, None)
        try:
            frames = video.sample_frames(file.data, num_frames, start=start, end=end, limits=limits).frames
        except InputError:  # nothing new is shown in the stretch: the frame before still stands
            frames = video.sample_frames(file.data, 2, end=end, limits=limits).frames[-1:].repeat(num_frames, axis=0)
        return torch.stack([self._transform.pixels(frame) for frame in frames])

    def stretches(self, file: File, seconds: float) -> list[tuple[float, float]]:
        """A video's parts of so many seconds, the last one shorter.

        Raises:
            ApiError: as `pixels`.
        """
        try:
            end = video.probe(file.data, limits=self._limits.videos(1)).duration
        except (MidsightError, MediaWarning) as error:
            raise _unreadable(file, str(error)) from None
        count = max(1, math.ceil(end / seconds - 1e-6))
        return [(number * seconds, min((number + 1) * seconds, end)) for number in range(count)]


def _unreadable(file: File, reason: str) -> ApiError:
    reason = reason.partition(" Raise ")[0]  # what a programmer could do; a client cannot
    reason = reason.removeprefix(f"<{len(file.data)} bytes>: ")
    code = "image_too_large" if "limit" in reason else "invalid_image"
    what = "video" if file.is_video else "picture"
    return ApiError(400, f"{file.place}: the {what} cannot be read: {reason}", code, file.place)
