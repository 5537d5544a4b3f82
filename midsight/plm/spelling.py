"""Ids that come one by one to text that can be shown: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence

from midsight.plm.tokenizer import TextCodec

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what half a character decodes to


class Spelling:
    """The text of an answer so far.

    Attributes:
        ids: all of them, without end tokens.
        stopped: a stop string has come; it and what follows are left out.
    """

    def __init__(self, tokenizer: TextCodec, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, [text for text in stop if text]
        self.ids: list[int] = []
        self.stopped = False
        self._text = ""
        self._shown = 0

    def add(self, token: int) -> str:
        """What can be shown now that was not shown before; may be empty."""
        self.ids.append(token)
        self._text = self.tokenizer.decode(self.ids)
        found = [at for at in (self._text.find(text) for text in self.stop) if at >= 0]
        if found:
            self.stopped = True
            self._text = self._text[: min(found)]
            return self._show(len(self._text))
        return self._show(len(self._text) - self._held_back())

    def rest(self) -> str:
        """What was held back, at the end of an answer."""
        return self._show(len(self._text))

    @property
    def text(self) -> str:
        """All of it, as far as it is an answer."""
        return self._text

    def _show(self, until: int) -> str:
        new = self._text[self._shown : until]
        self._shown = max(self._shown, until)
        return new

    def _held_back(self) -> int:
        """Characters at the end that may still become another character, or a stop string."""
        body = self._text.rstrip(UNFINISHED)
        return max(len(self._text) - len(body) + self._begun(body), self._begun(self._text))

    def _begun(self, text: str) -> int:
        """Most characters at the end of `text` with which a stop string begins."""
        lengths = (
            length for stop in self.stop for length in range(1, len(stop)) if text.endswith(stop[:length])
        )  # fmt: skip
        return max(lengths, default=0)
