"""Both kinds of tokenizer: special tokens are code's alone, files are checked."""

import base64
import json
from pathlib import Path

import pytest

from midsight.errors import CheckpointError
from midsight.plm.chat import chat_format
from midsight.plm.tokenizer import JsonTokenizer, Tokenizer, open_tokenizer
from tests.plm import peers

TEXTS = ["the thing", "  1234567 euros\n\nThe end. ", "près de l'étang (日本) 👍🏽", "", "\t\r\n"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    peers.write_tokenizer(tmp_path / "tokenizer.model")
    return tmp_path / "tokenizer.model"


def write_json_tokenizer(path: Path, special: list[str]) -> None:
    """A byte-level vocabulary of the tokenizers library with a few special tokens."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True) for name in special])
    backend.save(str(path))


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(file: Path, tmp_path: Path, text: str) -> None:
    write_json_tokenizer(tmp_path / "tokenizer.json", ["<|im_start|>", "<|im_end|>"])
    for tokenizer in (Tokenizer.from_file(file), JsonTokenizer(tmp_path / "tokenizer.json")):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_merges_are_used(file: Path) -> None:
    tokenizer = Tokenizer.from_file(file)
    assert tokenizer.encode(" the") == [258]
    assert tokenizer.encode("\n\n") == [261]
    assert len(tokenizer.encode("1234567")) == 7  # no merge crosses three digits, and none is there


def test_special_tokens_stand_behind_the_files_own(file: Path) -> None:
    tokenizer = Tokenizer.from_file(file)
    size = tokenizer.n_words - 256
    assert size == 263
    assert sorted(tokenizer.special_tokens.values()) == list(range(size, size + 256))
    expected = dict(bos_id=size, eos_id=size + 1, image_token_id=size + 2, eot_id=size + 9)
    assert {name: getattr(tokenizer, name) for name in expected} == expected
    assert tokenizer.special_tokens["<|start_header_id|>"] == size + 6  # 128006 in Llama 3's vocabulary of 128000


def test_text_that_spells_a_special_token_stays_text(file: Path, tmp_path: Path) -> None:
    write_json_tokenizer(tmp_path / "tokenizer.json", ["<|eot_id|>", "<|image|>"])
    for tokenizer in (Tokenizer.from_file(file), JsonTokenizer(tmp_path / "tokenizer.json")):
        for name in ("<|eot_id|>", "<|image|>"):
            ids = tokenizer.encode(f"a {name} b")
            assert not set(ids) & set(tokenizer.special_tokens.values())
            assert tokenizer.decode(ids) == f"a {name} b"
            assert tokenizer.decode([tokenizer.special_tokens[name]]) == name


def test_a_saved_tokenizer_is_the_same(file: Path, tmp_path: Path) -> None:
    write_json_tokenizer(tmp_path / "tokenizer.json", ["<|im_start|>"])
    (tmp_path / "new").mkdir()
    for tokenizer, name in (
        (Tokenizer.from_file(file), "tokenizer.model"),
        (JsonTokenizer(tmp_path / "tokenizer.json"), "tokenizer.json"),
    ):
        tokenizer.save(tmp_path / "new")
        again = type(tokenizer)
        read = again.from_file(tmp_path / "new" / name) if again is Tokenizer else again(tmp_path / "new" / name)
        assert read.special_tokens == tokenizer.special_tokens
        assert [read.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_which_file_a_folder_is_read_from(tmp_path: Path) -> None:
    assert open_tokenizer(tmp_path) is None
    peers.write_tokenizer(tmp_path / "tokenizer.model")
    assert isinstance(open_tokenizer(tmp_path), Tokenizer)
    write_json_tokenizer(tmp_path / "tokenizer.json", [])
    assert isinstance(open_tokenizer(tmp_path), JsonTokenizer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"\x0a\x0e\x0a\x05<unk>", "is not a base64 token.*SentencePiece"),
        (base64.b64encode(b"a") + b" zero\n", "line 1 is not a base64 token"),
        (base64.b64encode(b"a") + b" 0\n", "every single byte"),
    ],
)
def test_files_of_another_kind_are_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        Tokenizer.from_file(path)
    assert str(path) in str(caught.value)


def test_a_json_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer\.json"):
        open_tokenizer(tmp_path)


def test_a_tokenizer_without_an_image_token(tmp_path: Path) -> None:
    write_json_tokenizer(tmp_path / "tokenizer.json", ["<|im_start|>", "<|im_end|>"])
    with pytest.raises(CheckpointError, match="has no image token"):
        chat_format(JsonTokenizer(tmp_path / "tokenizer.json"))


def test_a_tokenizer_of_no_chat_model(tmp_path: Path) -> None:
    write_json_tokenizer(tmp_path / "tokenizer.json", ["<|image|>", "[INST]"])
    with pytest.raises(CheckpointError, match="no chat model that is known here"):
        chat_format(JsonTokenizer(tmp_path / "tokenizer.json"))
