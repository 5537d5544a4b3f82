"""Ids to text that can be shown: whole characters, nothing of a stop string."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midsight.plm.spelling import Spelling

TEXT = "Größe: 12 €, 株式会社 👩‍🚀 done"


class Bytes:
    """One id for each byte: every character beyond ASCII takes several."""

    special_tokens: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def spell(ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[Spelling, list[str]]:
    """All pieces that were shown, the rest last."""
    spelling, pieces = Spelling(Bytes(), stop), []
    for token in ids:
        pieces.append(spelling.add(token))
        if spelling.stopped:
            return spelling, pieces
    return spelling, [*pieces, spelling.rest()]


def test_characters_of_several_bytes_come_whole() -> None:
    spelling, pieces = spell(TEXT.encode())
    assert "".join(pieces) == spelling.text == TEXT
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert pieces[2:4] == ["", "ö"]


def test_half_a_character_at_the_end_is_shown_as_what_it_is() -> None:
    _, pieces = spell("a€".encode()[:-1])
    assert pieces == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        (["\n\n"], "one\ntwo"),
        (["two\n\nthree"], "one\n"),  # over several ids
        (["nothing", "wo"], "one\nt"),
        (["e\n", "two"], "on"),  # the first in the text counts
        (["", "absent"], "one\ntwo\n\nthree"),
        (["three four"], "one\ntwo\n\nthree"),  # begun, but not ended
    ],
)
def test_stop_strings(stop: list[str], shown: str) -> None:
    spelling, pieces = spell(b"one\ntwo\n\nthree", stop)
    assert "".join(pieces) == spelling.text == shown
    assert spelling.stopped == (shown != "one\ntwo\n\nthree")


def test_what_may_become_a_stop_string_is_held_back() -> None:
    _, pieces = spell(b"a\nb\n\nc", ["\n\n"])
    assert pieces == ["a", "", "\nb", "", ""]


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_pieces_add_up_to_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    text = text.replace("\N{REPLACEMENT CHARACTER}", "?").encode(errors="ignore").decode()
    spelling, pieces = spell(text.encode(), stop)
    assert "".join(pieces) == spelling.text
    if not spelling.stopped:
        assert spelling.text == text
        assert not any(some in text for some in stop)
    else:
        assert text.startswith(spelling.text)
        assert any(text[len(spelling.text) :].startswith(some) for some in stop)
        assert not any(some in spelling.text for some in stop)
