"""Pictures from anywhere, as RGB pixels: EXIF orientation, odd modes, limits, fast JPEG. No torch.

JPEG goes through simplejpeg (libjpeg-turbo), straight from the bytes; everything else, and any JPEG that simplejpeg
refuses (CMYK, for one), through Pillow. Both give the same pixels: they share the same decoder.
"""

import io
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from midsight.errors import ConfigError, InputError, MediaError, MidsightError, MissingDependencyError, ShapeError
from midsight.images.exif import ORIENTATION_TAG, jpeg_orientation, upright
from midsight.images.pixels import Pixels, from_array, over_white, to_8_bits

__all__ = [
    "DEFAULT_LIMITS", "IMAGE_SUFFIXES", "Limits", "Pixels", "Scratch", "count_pages", "describe", "load_image",
    "open_stored",
]  # fmt: skip

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".avif", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".ico", ".qoi")
)
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_QUIET_FORMATS = frozenset(("PNG", "WEBP", "GIF", "BMP", "AVIF", "HEIF", "PPM", "JPEG", "MPO"))
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
_pillow_lock = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What a picture may cost. Checked from the header, before any pixel is decoded.

    The default for pixels is Pillow's own limit against decompression bombs: an RGB picture of half a gigabyte.
    """

    max_pixels: int = 178_956_970
    max_bytes: int = 512 * 2**20  # of the file

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or self.max_bytes < 1:
            raise ConfigError(f"limits must be at least 1, got {self}")


DEFAULT_LIMITS = Limits()


class Scratch:
    """Memory for decoded pixels that one thread uses again and again: fresh pages cost as much as a resize."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """At least `size` bytes, with whatever was there before."""
        if self._buffer.size < size:
            self._buffer = np.empty(size, np.uint8)
        return self._buffer


def describe(source: object) -> str:
    """A short name of a source for messages."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) if isinstance(source, str) else str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or f"<{source.mode} image of {source.width}x{source.height}>")
    shape = getattr(source, "shape", None)
    if shape is not None:
        return f"<{type(source).__name__} {tuple(shape)}>"
    return str(getattr(source, "name", "") or f"<{type(source).__name__}>")


def load_image(
    source: Any,
    *,
    limits: Limits = DEFAULT_LIMITS,
    reduced_to: int | None = None,
    scratch: Scratch | None = None,
    page: int = 1,
) -> Pixels:
    """The picture's pixels as a person would see them: upright, RGB, transparent parts over white, first frame.

    Args:
        source: a path, the bytes of a file, an open binary file, a PIL image, an array (H, W, 3), or (H, W) or
            (H, W, 1 | 2 | 4) for grey, grey with alpha and RGBA; or a torch tensor (C, H, W). Arrays and tensors are
            uint8, uint16, bool, or floating point in [0, 1].
        limits: most pixels and most bytes; a file beyond them is refused before it is decoded.
        reduced_to: decode a JPEG at 1/2, 1/4 or 1/8 of its size, but at least twice this many pixels on the shorter
            side. Only for pictures that are then resized to about `reduced_to` pixels. What it gains and
            what it changes stands in benchmarks/RESULTS.md, "JPEG to tensor". Other formats are decoded in full.
        scratch: memory for the decoded pixels; the result is then valid only until its next use.
        page: of a file with several pictures, counted from 1; see `count_pages`.

    Returns:
        uint8 (H, W, 3), RGB, contiguous and writable. An array that is already so is given back itself.

    Raises:
        MediaError: missing, empty, cut, not a picture, or beyond the limits.
        ShapeError: an array or tensor of another shape or type.
        InputError: none of the kinds of source above, or floating-point values outside [0, 1].
        MissingDependencyError: a HEIC file without the extra `heif`.
    """
    name = describe(source)
    if isinstance(source, np.ndarray):
        return _limited(from_array(source, name), limits, name)
    if isinstance(source, Image.Image):
        return _from_pillow(source, limits, name)
    if _is_tensor(source):
        return _limited(from_array(_channels_last(source, name), name), limits, name)
    data = _read(source, limits, name)
    if page != 1:
        return _decode_page(data, limits, page, name)
    return _decode(data, limits, reduced_to, scratch, name)


def count_pages(source: Any, limits: Limits = DEFAULT_LIMITS) -> int:
    """Pages of a TIFF, as scanners write them; 1 for every other picture, animations too. No pixel is decoded.

    Args:
        source: a path, the bytes of a file, or an open binary file.

    Raises:
        MediaError: missing, empty, cut, not a picture, or beyond the limit of bytes.
    """
    name = describe(source)
    data = _read(source, limits, name)
    if data[:4] not in _TIFF_STARTS:
        return 1
    with _from_pillow_errors(name), _open(data, name) as image, _without_warnings():
        return int(getattr(image, "n_frames", 1))


def open_stored(source: Any, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """The first frame of a picture as it is stored: in its own mode, not turned, fully decoded.

    Args:
        source: a path, the bytes of a file, or an open binary file.

    Raises:
        MediaError: missing, empty, cut, not a picture, or beyond the limits.
        InputError: none of the kinds of source above.
    """
    name = describe(source)
    data = _read(source, limits, name)
    with _from_pillow_errors(name), _open(data, name) as image:
        _check_pixels(image.width, image.height, limits, name)
        with _without_warnings():
            image.load()
        return image


def _is_tensor(source: object) -> bool:
    torch = sys.modules.get("torch")  # who passes a tensor has imported it
    return torch is not None and isinstance(source, torch.Tensor)


def _read(source: Any, limits: Limits, name: str) -> bytes:
    """The bytes of a file-like source, and never more than the limit."""
    if isinstance(source, str | os.PathLike):
        data = _read_file(Path(source), limits, name)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif hasattr(source, "read"):
        try:
            data = source.read(limits.max_bytes + 1)
        except (OSError, ValueError) as error:
            raise MediaError(f"{name}: cannot be read ({error}).") from error
        if not isinstance(data, bytes):
            raise InputError(f"{name}: gives {type(data).__name__}, expected bytes. Open the file in mode 'rb'.")
    else:
        raise InputError(
            f"{name}: not a picture. Expected a path, bytes, a binary file, a PIL image, an array (H, W, 3) "
            f"or a tensor (3, H, W)."
        )
    if len(data) > limits.max_bytes:
        raise MediaError(
            f"{name}: larger than the limit of {limits.max_bytes} bytes. Raise Limits.max_bytes to read it."
        )
    if not data:
        raise MediaError(f"{name}: empty, expected a picture.")
    return data


def _read_file(path: Path, limits: Limits, name: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{name}: a folder, expected a picture. Name the files in it.")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
            raise MediaError(f"{name}: not a regular file, expected a picture.")
        if status.st_size > limits.max_bytes:
            raise MediaError(
                f"{name}: {status.st_size} bytes, the limit is {limits.max_bytes}. Raise Limits.max_bytes to read it."
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MediaError(f"{name}: no such file.") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise MediaError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _decode(data: bytes, limits: Limits, reduced_to: int | None, scratch: Scratch | None, name: str) -> Pixels:
    if data[:3] == b"\xff\xd8\xff":
        pixels = _decode_jpeg(data, limits, reduced_to, scratch, name)
        if pixels is not None:
            return upright(pixels, jpeg_orientation(data))
    with _from_pillow_errors(name), _open(data, name) as image:
        return _from_pillow(image, limits, name)


def _decode_page(data: bytes, limits: Limits, page: int, name: str) -> Pixels:
    with _from_pillow_errors(name), _open(data, name) as image:
        count = int(getattr(image, "n_frames", 1))
        if not 1 <= page <= count:
            raise MediaError(f"{name}: has {count} pages, page {page} was asked for.")
        with _without_warnings():
            image.seek(page - 1)
        return _from_pillow(image, limits, name)


def _decode_jpeg(
    data: bytes, limits: Limits, reduced_to: int | None, scratch: Scratch | None, name: str
) -> Pixels | None:
    """What simplejpeg makes of it, or None where Pillow should try."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_pixels(width, height, limits, name)
    if colorspace in ("CMYK", "YCCK"):
        return None
    factor = 1 if reduced_to is None else _reduction(min(height, width), 2 * reduced_to)
    least = (-(-height // factor), -(-width // factor)) if factor > 1 else (0, 0)
    buffer = None if scratch is None else scratch.take(3 * height * width)
    try:
        # strict: a cut file is an error here, and not half a picture
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=least[0], min_width=least[1], strict=True, buffer=buffer
        )
    except (ValueError, MemoryError):
        return None
    return cast(Pixels, pixels)


def _reduction(shorter: int, at_least: int) -> int:
    """8, 4 or 2 where that leaves `at_least` pixels, else 1; decoders are slower at the fractions in between."""
    return next((factor for factor in (8, 4, 2) if shorter // factor >= at_least), 1)


def _open(data: bytes, name: str) -> Image.Image:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[16:48]:
        _register_heif(name)
    with _without_warnings():
        return Image.open(io.BytesIO(data))


def _register_heif(name: str) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependencyError(
            f"{name}: a HEIC picture, which needs the package pillow-heif. Install midsight[heif]."
        ) from error
    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps Pillow's warnings to ourselves.

    Filters belong to the whole process, not to a thread: hence the lock. And should another thread leave a block of its
    own while this one is in here, what stays behind hushes Pillow only.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
        yield


@contextmanager
def _from_pillow_errors(name: str) -> Iterator[None]:
    try:
        yield
    except MidsightError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError(f"{name}: not a picture in any format that Pillow knows, or cut short.") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{name}: {error} Raise PIL.Image.MAX_IMAGE_PIXELS as well as Limits to read it.") from error
    except Exception as error:  # Pillow's plugins raise anything on broken files: struct.error, KeyError, SyntaxError
        raise MediaError(f"{name}: cut short or broken ({type(error).__name__}: {error}).") from error


def _from_pillow(image: Image.Image, limits: Limits, name: str) -> Pixels:
    _check_pixels(image.width, image.height, limits, name)
    with _from_pillow_errors(name):
        if image.format in _QUIET_FORMATS or image.format is None:
            image.load()
        else:
            with _without_warnings():
                image.load()
        orientation = _orientation(image)  # after load: TIFF and AVIF are turned by then, and say so
        return _limited(upright(_to_rgb(image), orientation), limits, name)


def _orientation(image: Image.Image) -> int:
    with _without_warnings():
        try:
            value = image.getexif().get(ORIENTATION_TAG, 1)
        except Exception:  # broken EXIF data is no reason to refuse the picture
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Pixels:
    """RGB pixels of a loaded image of any mode."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode[0] in "IF":  # 16 and 32 bits: Pillow would clip them to 255
        return from_array(to_8_bits(np.asarray(image)), "")
    if image.has_transparency_data:
        return over_white(np.asarray(image if image.mode == "RGBA" else image.convert("RGBA")))
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        image = cast(Image.Image, ImageCms.profileToProfile(image, *profiles, outputMode="RGB"))
    return np.array(image.convert("RGB"))


def _channels_last(tensor: Any, name: str) -> npt.NDArray[Any]:
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 2, 3, 4)):
        raise ShapeError(f"{name}: expected a tensor (3, H, W), one picture at a time.")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return cast("npt.NDArray[Any]", tensor.numpy() if tensor.ndim == 2 else tensor.permute(1, 2, 0).numpy())


def _check_pixels(width: int, height: int, limits: Limits, name: str) -> None:
    if width < 1 or height < 1:
        raise MediaError(f"{name}: {width}x{height} pixels, expected at least one.")
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{name}: {width}x{height} is {width * height} pixels, the limit is {limits.max_pixels}. "
            f"Raise Limits.max_pixels to read it."
        )


def _limited(pixels: Pixels, limits: Limits, name: str) -> Pixels:
    _check_pixels(pixels.shape[1], pixels.shape[0], limits, name)
    return pixels
