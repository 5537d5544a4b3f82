"""The last few prompt starts with their pictures, by content: the same page asked again is not encoded again."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from midsight.images import Pixels
from midsight.plm.answer import Answerer, Page
from midsight.serve.conversation import Prompt
from midsight.serve.decoding import Decoders, raw_pixels
from midsight.serve.limits import ServeLimits
from midsight.serve.pictures import Picture

Key = tuple[str | None, bool, tuple[bytes, ...]]  # system text, coarse, SHA-256 of each picture's file


class Pages:
    """For one thread; pages of one model."""

    def __init__(self, limits: ServeLimits, decoder: Sequence[str] | None = None) -> None:
        self._limits = limits
        self._decoders = Decoders(None, limits.images, limits.decode_seconds, decoder)
        self._kept: OrderedDict[Key, Page] = OrderedDict()

    def take(self, answerer: Answerer, prompt: Prompt) -> Page:
        """The page of a prompt. It is out of the store until it is given back, so that an error leaves none behind.

        Raises:
            ApiError: 400, a picture cannot be read.
            InputError: more visual tokens than the context has.
        """
        key = _key(prompt)
        if key in self._kept:
            return self._kept.pop(key)
        # another system text in front of the same pictures: the tower's part stays
        like = next((page for found, page in self._kept.items() if found[1:] == key[1:] and page.media), None)
        page = answerer.read([self._pixels(picture) for picture in prompt.pictures])
        return page if like is None else replace(page, features=like.features)

    def give_back(self, prompt: Prompt, page: Page) -> None:
        """Keep a page that was used; the one that was not asked for longest goes."""
        self._kept[_key(prompt)] = page
        while len(self._kept) > self._limits.pages:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """Ends the process that decodes."""
        self._decoders.close()

    def _pixels(self, picture: Picture) -> Pixels:
        told = f"{picture.place}: picture {picture.number}"
        return raw_pixels(self._decoders, picture.data, told, picture.place)


def _key(prompt: Prompt) -> Key:
    hashes = tuple(hashlib.sha256(picture.data).digest() for picture in prompt.pictures)
    return prompt.system, prompt.coarse, hashes
