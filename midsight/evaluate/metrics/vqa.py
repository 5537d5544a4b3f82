"""Accuracy of VQAv2 and TextVQA: ten people answered each question, and an answer is as right as they agree with it.

Source: Antol et al. 2015 and the official evaluation's rules for writing answers in one way.
"""

import re
from collections.abc import Sequence

from midsight.errors import InputError

AGREEING = 3  # people whose answer is fully right
_WORDS_FOR_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(number) for number, word in enumerate(_WORDS_FOR_NUMBERS)} | {"none": "0"}
ARTICLES = frozenset(("a", "an", "the"))
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# the official table maps each of these, written without one of its apostrophes, to the word with all of them
_SHORTENED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")  # the official pattern looks back as well, but in a way that never matches


def vqa_accuracy(answer: str, golds: Sequence[str]) -> float:
    """How far people agree with the answer, from 0 to 1.

    For each person in turn, the answer counts min(matches / 3, 1) among all others; the mean of that.

    Args:
        answer, golds: in one way of writing already, see `normalise` and `normalise_words`.

    Raises:
        InputError: no gold answer.
    """
    if not golds:
        raise InputError("there is nothing to compare with: no gold answer")
    same = sum(gold == answer for gold in golds)
    scores = [min((same - (gold == answer)) / AGREEING, 1.0) for gold in golds]
    return sum(scores) / len(scores)


def normalise(text: str) -> str:
    """An answer of VQAv2 in the official way of writing: no punctuation, no articles, digits, apostrophes put in."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    return _words(_without_punctuation(text))


def normalise_words(text: str) -> str:
    """An answer of TextVQA: as `normalise`, but commas and question marks go first and 's stands alone."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalise(text)


def _without_punctuation(text: str) -> str:
    """Signs beside a space vanish, others become a space; where a number has a comma, all vanish. As published."""
    found = text
    for sign in PUNCTUATION:
        vanishes = f"{sign} " in text or f" {sign}" in text or _COMMA_IN_NUMBER.search(text)
        found = found.replace(sign, "" if vanishes else " ")
    return _PERIOD.sub("", found)


def _words(text: str) -> str:
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in ARTICLES)


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:place] + word[place + 1 :] for place, letter in enumerate(word) if letter == "'"]


_APOSTROPHES = {short: word for word in _SHORTENED.split() for short in _without_one_apostrophe(word)}
_APOSTROPHES["somebody'd"] = "somebodyd"  # the official table has this one the wrong way round
