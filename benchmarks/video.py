"""Video: how fast do a clip's eight frames come?"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from benchmarks import machine, media
from benchmarks.common import Call, beside, fresh, in_turn, ratio, verdict
from benchmarks.report import Section
from midsight.video import sample_frames, uniform_indices

FRAMES = 8
ROUNDS = 15
GOAL = 1.35
CLIPS = {  # codec, size, frames, key frame every so many; the goal is for the first
    "MPEG-4, 256 x 256, 150 frames, key frame every 12": ("mpeg4", (256, 256), 150, 12),
    "H.264, 640 x 360, 300 frames, key frame every 60": ("libx264", (640, 360), 300, 60),
    "H.264, 640 x 360, 300 frames, one key frame": ("libx264", (640, 360), 300, 300),
}
INTRO = (
    f"{FRAMES} evenly spaced frames of made clips (30 frames a second, a view that wanders over a made picture) "
    "as uint8 RGB, against PyAV decoding the whole clip and converting the frames wanted, one decoder thread "
    "each. Pixels are compared before anything is timed. With one key frame only, everything before the last "
    "frame wanted has to be decoded by anybody."
)


def run() -> Section:
    """Each clip, by PyAV and by torchcodec, exact and by key frames."""
    machine.pin()
    section = Section("Video: eight frames of a clip", INTRO)
    backends, note = available()
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, (codec, size, count, key_every)) in enumerate(CLIPS.items()):
            path = media.write_clip(Path(folder) / f"{number}.mp4", codec, size, count, key_every)
            rows = measure(path, case, backends, GOAL if number == 0 else None)
            memory = [fresh(f"benchmarks.child:video_{who}", str(path), FRAMES).peak for who in ("midsight", "pyav")]
            rows[0]["Peak memory"] = f"{memory[0]:.0f} MB (PyAV {memory[1]:.0f} MB)"
            section.rows += rows
            print(rows, file=sys.stderr, flush=True)
    section.notes += [note, "Peak memory is that of a process that takes the frames of that clip once."]
    return section


def available() -> tuple[list[str], str]:
    """Backends that load here, and a remark."""
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return ["pyav"], f"torchcodec does not load here ({type(error).__name__}) and was not measured."
    return ["pyav", "torchcodec"], '"torchcodec" is midsight with that backend; "torchcodec itself" is its own decoder.'


def measure(path: Path, case: str, backends: list[str], goal: float | None) -> list[dict[str, str]]:
    """A row for each way of ours."""
    ways: dict[str, Call] = {
        name: lambda name=name: sample_frames(path, FRAMES, backend=name).frames for name in backends
    }
    ways["key frames (approximate)"] = lambda: sample_frames(path, FRAMES, backend="pyav", approximate=True).frames
    expected = decode_all(path, FRAMES)
    for name in backends:
        if not np.array_equal(ways[name](), expected):
            raise RuntimeError(f"{case}: {name} gives other frames than PyAV's full decoding")
    peers: dict[str, Call] = {"PyAV full decode": lambda: decode_all(path, FRAMES)}
    if "torchcodec" in backends:
        peers["torchcodec itself"] = lambda: torchcodec(path, FRAMES)
    times = in_turn({**ways, **peers}, ROUNDS)
    rows = []
    for way in ways:
        found = ratio(times[way], times["PyAV full decode"], "PyAV full decode")
        exact = way in backends
        rows.append(
            {
                "Case": f"{case}; {way}",
                "Speed": str(found),
                "Goal": verdict(found, goal) if way == "pyav" else "-",
                "Per clip": beside(times, way, "PyAV full decode"),
                "Frames": "equal"
                if exact
                else f"others, {difference(ways[way](), expected):.1f} of 255 away on average",
            }
        )
        if "torchcodec itself" in times:
            rows[-1]["To torchcodec itself"] = str(ratio(times[way], times["torchcodec itself"], "torchcodec"))
    return rows


def decode_all(path: Path, count: int) -> npt.NDArray[np.uint8]:
    """The usual way with PyAV: every frame decoded, those wanted converted. uint8 (count, H, W, 3)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        frames = list(container.decode(stream))
        return np.stack([frames[i].to_ndarray(format="rgb24") for i in uniform_indices(len(frames), count)])


def torchcodec(path: Path, count: int) -> Any:
    """torchcodec's own decoder, one thread, asked for the same frames. uint8 (count, H, W, 3)."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(uniform_indices(len(decoder), count)).data


def difference(found: Any, expected: npt.NDArray[np.uint8]) -> float:
    """Mean absolute difference of pixels."""
    return float(np.abs(found.astype(np.float32) - expected).mean())
