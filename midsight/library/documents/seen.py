"""Pictures without text, asked about: an encoder of pictures and texts answers by itself, in words that it is given.

No language model takes part. Names and the things of the question are put into the encoder's space; the nearest are
what it sees. What a small language model makes of such names is measured in `benchmarks.photographs`: less.
"""

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import midsight
from midsight.errors import CheckpointError, OutputError
from midsight.library.documents.asked import Asked
from midsight.plm.packaged import cache_folder
from midsight.tasks.zero_shot import Prediction

if TYPE_CHECKING:
    from midsight.api import Perception

Array = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]

LIST = Path(midsight.__file__).parent / "assets" / "visible_names" / "names.tsv"
TEMPLATES = "photo"
SHOWN = 5  # names beside an answer
SHOWN_FRAMES = 8  # of a video
TIMES = 2.5  # how much likelier than a name is on average a thing must be that is there,
SHARE = 0.15  # or else how likely the names of its kinds together


@dataclass(frozen=True)
class Seen:
    """An answer, and the names that it rests on, the likeliest first; their chances are among all names."""

    answer: str
    names: tuple[Prediction, ...]


def visible_names() -> dict[str, list[str]]:
    """The names that things are given where the question names none, and what else each is: synonyms, broader names.

    See midsight/assets/visible_names/README.md.
    """
    rows = [line.split("\t") for line in LIST.read_text(encoding="utf-8").split("\n")[:-1]]
    return {name: broader.split("|") if broader else [] for name, broader in rows}


class Eye:
    """Says what pictures show.

    Args:
        model: a PE-Core with its text tower.
        names: what things can be called, with broader names of each; None takes `visible_names`.

    Raises:
        InputError: the model has no texts.
    """

    def __init__(self, model: "Perception", names: Mapping[str, Sequence[str]] | None = None) -> None:
        broader = visible_names() if names is None else names
        self.model, self.names = model, list(broader)
        self._below: dict[str, list[int]] = {}  # places of the names that a name covers, its own with them
        for place, (name, above) in enumerate(broader.items()):
            for one in (name, *above):
                self._below.setdefault(one, []).append(place)

    def answer(self, asked: Asked, picture: Any) -> Seen:
        """What a picture shows; anything that `Perception.embed_images` takes.

        Raises:
            MediaError: it cannot be read.
        """
        return self.of_embedding(asked, self.model.embed_images([picture])[0])

    def answer_frames(self, asked: Asked, frames: npt.NDArray[np.uint8]) -> Seen:
        """The same for the frames of a video (T, H, W, 3), by the mean of what they look like."""
        return self.of_embedding(asked, self.model.embed_videos([frames])[0])

    def of_embedding(self, asked: Asked, embedding: Array) -> Seen:
        """The same for an embedding (D,) of length 1."""
        logits = self.logits(embedding).astype(np.float64)
        whole = np.logaddexp.reduce(logits)
        if asked.kind == "name":
            names = self._likeliest(logits, whole, self._covered(asked.things[0]) if asked.things else [])
            return Seen(names[0].label, names)
        texts = self.model.embed_texts(asked.things, TEMPLATES)
        fits = [float(fit) for fit in self.model.logit_scale * (texts @ embedding)]
        known = set(self.names)  # others count beside them
        own = [
            math.exp(fit - (whole if thing in known else np.logaddexp(whole, fit)))
            for thing, fit in zip(asked.things, fits, strict=True)
        ]
        if asked.kind == "choice":
            ranked = sorted(map(Prediction, asked.things, own), key=lambda thing: -thing.score)
            return Seen(ranked[0].label, tuple(ranked))
        return self._yes_no(asked.things[0], own[0], logits, whole)

    def _yes_no(self, thing: str, own: float, logits: Array64, whole: float) -> Seen:
        """Yes where a thing itself is likely, or the kinds of it are together: of a cat, "animal" is not likely."""
        covered = self._covered(thing)
        kinds = float(np.exp(logits[covered] - whole).sum())
        likely = own * len(self.names) > TIMES or kinds > SHARE
        others = [name for name in self._likeliest(logits, whole, []) if name.label != thing]
        return Seen("Yes" if likely else "No", (Prediction(thing, max(own, kinds)), *others))

    def _likeliest(self, logits: Array64, whole: float, among: Sequence[int]) -> tuple[Prediction, ...]:
        """The best names, of some if there are some, else of all."""
        places = np.array(among) if len(among) else np.arange(len(logits))
        best = places[np.argsort(-logits[places], kind="stable")[:SHOWN]]
        return tuple(Prediction(self.names[n], math.exp(logits[n] - whole)) for n in best)

    def _covered(self, thing: str) -> list[int]:
        """Places of the names of a thing and its kinds, in the singular or the plural; none where it is not known."""
        singular = (thing, thing.removesuffix("s"), thing.removesuffix("es"), f"{thing.removesuffix('ies')}y")
        return next((self._below[form] for form in singular if form in self._below), [])

    def logits(self, embedding: Array) -> Array:
        """How well each name fits an embedding: (N,), scaled for a softmax."""
        scaled: Array = self.model.logit_scale * (self._texts @ embedding)
        return scaled

    @cached_property
    def _texts(self) -> Array:
        """Embeddings (N, D) of the names; some seconds of work, so they are kept in the user's cache folder."""
        from midsight.checkpoints.reader import read_tensors
        from midsight.checkpoints.writer import write_safetensors

        asked = "\n".join([self.model.identity, self.model.dtype, TEMPLATES, *self.names])
        path = cache_folder() / f"names-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.safetensors"
        with contextlib.suppress(CheckpointError):
            if path.exists():
                return read_tensors(path)["texts"].float().numpy()
        texts = self.model.embed_texts(self.names, TEMPLATES)
        import torch

        with contextlib.suppress(OutputError, OSError):  # a cache that cannot be written costs time only
            path.parent.mkdir(parents=True, exist_ok=True)
            write_safetensors(path, {"texts": torch.from_numpy(texts)})
        return texts
