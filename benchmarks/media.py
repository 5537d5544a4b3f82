"""Made pictures and clips: the same on every machine, as large as a camera's, and about as hard to decode."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

PHOTO = (1936, 1296)  # 2.5 megapixels
LARGE_PHOTO = (4032, 3024)  # 12 megapixels, a telephone's
ABOUT_PHOTOS = "filtered noise in seven octaves under 60 shapes, JPEG of quality 90 with 4:2:0 chroma"


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Something with a photograph's spectrum: noise that is weaker the finer it is, and shapes with sharp edges."""
    generator = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 128.0, np.float32)
    for octave in range(7):
        step = 2**octave
        grain = generator.standard_normal((height // step + 2, width // step + 2, 3)) * 2.2 * step**0.55
        layers = [
            Image.fromarray(grain[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
            for c in range(3)
        ]
        grey = np.asarray(layers[0])[..., None]
        canvas += 0.8 * grey + 0.3 * np.stack([np.asarray(layer) for layer in layers], axis=-1)
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    _shapes(ImageDraw.Draw(image, "RGBA"), generator, width, height)
    return image


def _shapes(draw: ImageDraw.ImageDraw, generator: np.random.Generator, width: int, height: int) -> None:
    for _ in range(60):
        x, y, size = generator.uniform(0, width), generator.uniform(0, height), generator.uniform(0.02, 0.2) * width
        colour = tuple(int(v) for v in generator.integers(0, 256, 3)) + (int(generator.integers(90, 200)),)
        corners = (x, y, x + size, y + size * generator.uniform(0.4, 1.6))
        (draw.ellipse if generator.random() < 0.5 else draw.rectangle)(corners, fill=colour)


def jpeg(width: int, height: int, seed: int) -> bytes:
    """A made photograph as a JPEG file."""
    file = io.BytesIO()
    picture(width, height, seed).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_jpegs(folder: Path, count: int, size: tuple[int, int] = PHOTO) -> list[Path]:
    """`count` made photographs in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(*size, seed=number))
    return paths


def clip_frames(width: int, height: int, count: int) -> list[npt.NDArray[np.uint8]]:
    """A view that wanders over a made picture, with a disc that crosses it."""
    margin = 96
    scene = np.asarray(picture(width + 2 * margin, height + 2 * margin, seed=7))
    rows, columns = np.ogrid[:height, :width]
    frames = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        top, left = int(margin * (1 + 0.9 * np.sin(angle))), int(margin * (1 + 0.9 * np.cos(2 * angle)))
        frame = scene[top : top + height, left : left + width].copy()
        inside = (rows - height / 2) ** 2 + (columns - width * number / count) ** 2 < (height / 8) ** 2
        frame[inside] = (230, 40, 40)
        frames.append(frame)
    return frames


def write_clip(path: Path, codec: str, size: tuple[int, int], count: int, key_every: int, rate: int = 30) -> Path:
    """A clip of `count` frames by `codec`, with a key frame every `key_every` frames."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = key_every
        no_scenes = "0" if codec == "libx264" else "1000000000"  # or the encoder adds key frames of its own choice
        stream.options = {"sc_threshold": no_scenes}
        stream.codec_context.time_base = Fraction(1, rate)
        stream.bit_rate = 8 * width * height
        for pixels in clip_frames(width, height, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
