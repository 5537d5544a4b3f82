"""Options that several commands share, and the model that they describe."""

import gc
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import show
from midsight.errors import InputError
from midsight.imports import without_gc

if TYPE_CHECKING:
    from midsight.api import Perception

Paths = Annotated[list[str], typer.Argument(help="Pictures, videos, or folders of them.", metavar="PATH")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Published name, folder, checkpoint file or Hugging Face repository. Default: the embedded model.",
        show_default=False,
    ),
]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of the repository.", show_default=False)
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto and fp32 are exact; bf16 is faster.")]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", help="Side in pixels. Default: what the model was trained with.", show_default=False),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="CPU threads of the encoder. Default: the CPUs that are free.", show_default=False),
]
Frames = Annotated[int, typer.Option("--frames", help="Frames taken from each video or segment.", min=1)]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", help="Pictures and frames encoded together.", min=1, show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run: checkpoints, logs, model.", show_default=False)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: optim.lr=1e-4.")
]


def open_model(
    model: str | None,
    device: str,
    dtype: str,
    *,
    revision: str | None = None,
    layer: int | None = None,
    image_size: int | None = None,
    threads: int | None = None,
) -> "Perception":
    """The model that the options describe; says on a terminal that it is being loaded, for that can take a while."""
    with loading(model or "the embedded model"):
        import midsight

        return midsight.load(
            model,
            device,
            dtype,  # type: ignore[arg-type]  # load says what is allowed
            layer,
            revision=revision,
            image_size=image_size,
            threads=threads,
        )


@contextmanager
def loading(what: str) -> Iterator[None]:
    """While a model is loaded: says so on a terminal, and looks for no cyclic garbage in what comes to stay."""
    with show.status(f"loading {what}"), without_gc():
        yield
        gc.freeze()


@contextmanager
def readable_warnings() -> Iterator[None]:
    """Warnings of the library as one line each, without file names and line numbers of its code."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
            warnings.showwarning = lambda message, *_, **__: show.warn(f"warning: {message}")
        yield


def read_list(value: str, what: str) -> list[str]:
    """Entries of an option: separated by commas, or one on each line of a file that is named with @.

    Raises:
        InputError: the file cannot be read as text, or holds nothing.
    """
    if not value.startswith("@"):
        return [entry.strip() for entry in value.split(",")]
    path = Path(value[1:])
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); expected {what}, one on each line") from None
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise InputError(f"{path}: holds no {what}; expected one on each line")
    return entries


def read_templates(value: str) -> str | list[str]:
    """Templates by name, from a file (@), or one text with {c}."""
    return read_list(value, "templates") if value.startswith("@") else value


@contextmanager
def interruptible(first: Callable[[], bool] = lambda: False) -> Iterator[Callable[[], None]]:
    """Ctrl-C that long work cannot miss: gives a function that raises KeyboardInterrupt if there was one.

    Python drops the exception where it is raised in a destructor or in a callback of C code; the work would go on.

    Args:
        first: asked at each Ctrl-C; where it says True, that one is answered, for instance by ending a recording.
    """
    heard = False

    def note(*_: object) -> None:
        nonlocal heard
        if first():
            return
        heard = True
        raise KeyboardInterrupt

    def check() -> None:
        if heard:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield check
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
