"""The teacher of the vision tower: what the packaged classifier sees, said in the places of the words.

It is a teacher as any other of `midsight.train.distill`: normalised pixels and token ids in, features of both out.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from midsight.errors import CheckpointError, ConfigError
from midsight.pe import stem
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.words import Words

FILE = "teacher.safetensors"
DRAWING = "a drawing of {}"  # captions of drawings in the training pictures


class WordsTeacher:
    """Photographs by the classifier's answer, drawings by their caption.

    Args:
        trunk: the classifier.
        words: where its classes lie.
        tokens: token ids (N, L) of every text of the training pictures.
        places: unit rows (N, width) of these texts.
        drawings: bool (N,), texts that only drawings have.
    """

    def __init__(self, trunk: Trunk, words: Words, tokens: Tensor, places: Tensor, drawings: Tensor) -> None:
        self.trunk, self.words = trunk, words
        self.places, self.drawings = places, drawings
        self.rows = {row.tobytes(): number for number, row in enumerate(tokens.int().numpy())}

    def to(self, device: torch.device) -> "WordsTeacher":
        """Moves it, in place."""
        trunk, words = self.trunk, self.words
        weight, bias = trunk.weight.to(device), trunk.bias.to(device)
        moved = trunk.stem.to(device).to(memory_format=torch.channels_last)
        self.trunk = Trunk(moved, weight, bias)
        self.words = Words(words.classes.to(device), words.length)
        self.places, self.drawings = self.places.to(device), self.drawings.to(device)
        return self

    @torch.no_grad()
    def __call__(self, media: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, S, S) and token ids (B, L) to unit rows (B, width) of both.

        Raises:
            ConfigError: a text that it was not made for.
        """
        rows = self._rows(texts)
        places = self.places[rows]
        pooled = self.trunk.stem(media.contiguous(memory_format=torch.channels_last)).float().mean((2, 3))
        with torch.autocast(media.device.type, enabled=False):
            seen = self.words.image(self.trunk.logits(pooled).softmax(-1))
        return torch.where(self.drawings[rows][:, None], places, seen), places

    def _rows(self, texts: Tensor) -> Tensor:
        keys = [row.tobytes() for row in texts.int().cpu().numpy()]
        missing = next((number for number, key in enumerate(keys) if key not in self.rows), None)
        if missing is not None:
            raise ConfigError(
                f"loss.teacher: row {missing} of a batch holds a text that the teacher has no place for; train on the "
                "pictures that were made with it"
            )
        return torch.tensor([self.rows[key] for key in keys], device=texts.device)


def save_teacher(folder: Path, trunk: Trunk, words: Words, tokens: Tensor, places: Tensor, drawings: Tensor) -> None:
    """Write it into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem_weights = {f"stem.{name}": value.contiguous() for name, value in trunk.stem.state_dict().items()}
    rest = {
        "classifier.weight": trunk.weight, "classifier.bias": trunk.bias, "classes": words.classes,
        "tokens": tokens.int(), "places": places.half(), "drawings": drawings,
    }  # fmt: skip
    save_file({**stem_weights, **{k: v.contiguous() for k, v in rest.items()}}, folder / FILE)


def open_words(folder: str, device: torch.device, context_length: int) -> WordsTeacher:
    """The teacher in a folder, on a device.

    Raises:
        CheckpointError: the folder holds none.
        ConfigError: it was made for another context length.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise CheckpointError(f"{path}: not there; python -m midsight.train.embedded makes it")
    found = load_file(path)
    if found["tokens"].shape[1] != context_length:
        raise ConfigError(
            f"{path}: made for texts of {found['tokens'].shape[1]} tokens, the student reads {context_length}"
        )
    trunk = stem.build("efficientnet_lite2")
    trunk.load_state_dict({k.removeprefix("stem."): v for k, v in found.items() if k.startswith("stem.")})
    trunk.eval().requires_grad_(False)
    whole = Trunk(trunk, found["classifier.weight"], found["classifier.bias"])
    words = Words(found["classes"], 1.0)  # places are given: no length is needed
    return WordsTeacher(whole, words, found["tokens"], found["places"].float(), found["drawings"]).to(device)
