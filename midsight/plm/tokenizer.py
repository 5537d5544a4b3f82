"""Text to ids and back for language models: Llama 3's published file, or the `tokenizer.json` of a folder.

Text that spells a special token stays text in both: only code puts special tokens into a prompt.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from midsight.errors import CheckpointError, MissingDependencyError
from midsight.files import atomic_write

_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
MAX_BYTES = 64 << 20  # of a vocabulary file; Llama 3's has 2 MB, the largest tokenizer.json known 33 MB
SPECIAL_COUNT = 256  # that Llama 3 puts after the file's own tokens
# Llama 3's first special tokens in order; the third is PerceptionLM's
FIRST_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|image|>",
    "<|reserved_special_token_1|>",
    "<|reserved_special_token_2|>",
    "<|reserved_special_token_3|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
)
# how Llama 3 cuts text before its merges: contractions, words, numbers of up to three digits, signs, white space
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


class TextCodec(Protocol):
    """What a chat needs of a tokenizer."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens by their text."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids without a begin or end token; text that spells a special token stays text."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Text; special tokens as they are spelt."""
        ...

    def save(self, folder: Path) -> None:
        """Puts the tokenizer's files into a folder."""
        ...


class Tokenizer:
    """Llama 3's byte-pair encoding from tiktoken's text format, with PerceptionLM's special tokens.

    Attributes:
        special_tokens: {text: id}, 256 of them, after the file's own.
        n_words: size of the vocabulary.
        bos_id, eos_id, eot_id, image_token_id: by their published names.
        stop_tokens: ids that end an answer.
    """

    def __init__(self, ranks: dict[bytes, int]) -> None:
        self._ranks = ranks
        try:
            import tiktoken
        except ImportError as error:
            raise MissingDependencyError(
                "a tokenizer.model needs tiktoken: pip install 'midsight[plm]', or use a folder with a tokenizer.json"
            ) from error
        names = (*FIRST_SPECIAL, *(f"<|reserved_special_token_{i}|>" for i in range(5, SPECIAL_COUNT - 5)))
        self.special_tokens = {name: len(ranks) + index for index, name in enumerate(names)}
        self.n_words = len(ranks) + SPECIAL_COUNT
        self.bos_id, self.eos_id, self.image_token_id = (self.special_tokens[name] for name in FIRST_SPECIAL[:3])
        self.eot_id = self.special_tokens["<|eot_id|>"]
        self.stop_tokens = [self.eos_id, self.eot_id]
        self._coder = tiktoken.Encoding(
            "llama3", pat_str=PIECES, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Reads `tokenizer.model`: one base64 token and its rank a line.

        Raises:
            CheckpointError: missing, empty, too large, or in another format.
        """
        return cls(_read_ranks(Path(path)))

    def encode(self, text: str) -> list[int]:
        """Ids without a begin or end token; text that spells a special token stays text."""
        return self._coder.encode_ordinary(text)

    def decode(self, ids: list[int]) -> str:
        """Text; special tokens as they are spelt, bytes that are no text as the replacement character."""
        return self._coder.decode(ids)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.model` in tiktoken's text format, and the same as the files that transformers reads."""
        from midsight.plm.tokenizer_json import write

        with atomic_write(folder / "tokenizer.model") as file:
            for token, rank in sorted(self._ranks.items(), key=lambda pair: pair[1]):
                file.write(base64.b64encode(token) + b" " + str(rank).encode() + b"\n")
        write(folder, self._ranks, self.special_tokens)


class JsonTokenizer:
    """A `tokenizer.json` of the tokenizers library, as transformers' folders hold it."""

    def __init__(self, path: str | Path, files: Mapping[str, bytes] | None = None) -> None:
        """
        Args:
            path: of the `tokenizer.json`.
            files: contents by name in place of those in its folder: `tokenizer.json` and what lies beside it.
        """
        from tokenizers import Tokenizer as Backend

        self.path = Path(path)
        if files is None:
            _check_size(self.path)
            beside = {name: self.path.with_name(name) for name in _BESIDE}
            files = {"tokenizer.json": self.path.read_bytes()}
            files |= {name: file.read_bytes() for name, file in beside.items() if file.is_file()}
        self.files = files
        try:
            self._coder = Backend.from_buffer(files["tokenizer.json"])
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path}: not a tokenizer.json of the tokenizers library ({error})") from error
        self._coder.encode_special_tokens = True  # text that spells one stays text
        self._coder.no_truncation()
        self._coder.no_padding()
        added = self._coder.get_added_tokens_decoder()
        self.special_tokens = {token.content: index for index, token in added.items() if token.special}

    def encode(self, text: str) -> list[int]:
        """Ids without a begin or end token; text that spells a special token stays text."""
        return list(self._coder.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Text; special tokens as they are spelt."""
        return str(self._coder.decode(ids, skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and what lay beside it: its settings and the chat template."""
        for name, content in self.files.items():
            with atomic_write(folder / name) as file:
                file.write(content)

    def renamed(self, old: str, new: str) -> "JsonTokenizer":
        """The same with another spelling of a special token, whose id stays."""
        quoted = json.dumps(old, ensure_ascii=False).encode(), json.dumps(new, ensure_ascii=False).encode()
        return JsonTokenizer(self.path, {name: content.replace(*quoted) for name, content in self.files.items()})

    def extended(self, token: str) -> "JsonTokenizer":
        """The same with one more special token behind the others."""
        from tokenizers import AddedToken
        from tokenizers import Tokenizer as Backend

        coder = Backend.from_buffer(self.files["tokenizer.json"])
        coder.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        return JsonTokenizer(self.path, {**self.files, "tokenizer.json": coder.to_str(pretty=True).encode()})


def open_tokenizer(folder: Path) -> TextCodec | None:
    """The tokenizer in a folder: `tokenizer.json`, or else `tokenizer.model` in tiktoken's format; None without one.

    Raises:
        CheckpointError: the file is there, but is no tokenizer.
    """
    if (folder / "tokenizer.json").exists():
        return JsonTokenizer(folder / "tokenizer.json")
    if (folder / "tokenizer.model").exists():
        return Tokenizer.from_file(folder / "tokenizer.model")
    return None


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; a tokenizer was expected here")
    if not 0 < (size := path.stat().st_size) <= MAX_BYTES:
        raise CheckpointError(f"{path}: {size} bytes, expected a tokenizer of 1 to {MAX_BYTES} bytes")


def _read_ranks(path: Path) -> dict[bytes, int]:
    _check_size(path)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise CheckpointError(
                f"{path}: line {number} is not a base64 token and its rank; expected tiktoken's text format, as "
                "Llama 3's tokenizer.model has it (SentencePiece files of the same name are another format)"
            ) from error
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([b]) not in ranks for b in range(256)):
        raise CheckpointError(
            f"{path}: expected ranks 0, 1, 2 ... and every single byte among the tokens; "
            "the file is cut or of another kind"
        )
    return ranks
