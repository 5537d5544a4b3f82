"""What a question wants to know of a picture: its name, whether one thing is there, or which of several it is.

These are what an encoder of pictures and texts can answer by itself. Everything else is not understood on purpose:
counts, colours, places, people and actions, which the embedded encoder does not know.
"""

import re
from dataclasses import dataclass
from typing import Literal

FORMS = '"What is this?", "Is there a dog?", "Is it a cat, a dog or a horse?"'
_PICTURE = r"(?:picture|photo|photograph|image|video|clip|drawing|frame)"
_THIS = r"(?:this|that|it|these|those|they|there)"
_PLACE = re.compile(
    rf"(?: (?:visible|shown|seen|depicted|pictured|to be seen))?"
    rf"(?: (?:in|on) (?:the|this|that|my) {_PICTURE}| in it| on it| here)?$"
)
_BROAD = (
    "thing|object|item|animal|bird|fish|insect|mammal|reptile|plant|flower|tree|fruit|vegetable|food|dish|drink|"
    "vehicle|tool|machine|instrument|musical instrument|building|furniture|piece of furniture|toy|clothing|dog|cat"
)
_NAMES = re.compile(
    rf"what(?:'s| is| are)(?: {_THIS})?(?: (?:a|the) {_PICTURE} of)?(?: called)?"
    rf"|what is (?:this|the|that) {_PICTURE}(?: of)?"
    rf"|what (?:does|do) (?:it|(?:this|the|that) {_PICTURE}) (?:show|depict|contain)"
    r"|what (?:can|do|could) (?:you|i|we|one) see|what can be"
    rf"|(?:what|which)(?: (?:kind|sort|type) of)? (?P<kind>{_BROAD})s?(?: (?:is|are)(?: {_THIS})?)?"
    rf"|(?:please )?(?:describe|name)(?: {_THIS}| (?:the|this|that) (?:{_PICTURE}|thing|object|animal))?"
)
_ARTICLE = r"(?:(?:a|an|any|some|the) )"
_ASKS = re.compile(
    rf"(?:(?:is|are) there {_ARTICLE}?"
    rf"|(?:is|are) {_THIS} (?:{_ARTICLE}{_PICTURE} of )?{_ARTICLE}"
    rf"|are (?:these|those|they) "
    rf"|(?:can|do|could) (?:you|i|we|one) see {_ARTICLE}?"
    rf"|(?:does|do) (?:it|(?:this|the|that) {_PICTURE}) (?:show|depict|contain|have) {_ARTICLE}?"
    rf"|(?:which|what)(?: one| of these| (?:{_BROAD}))?(?: (?:is|are)(?: {_THIS})?)? ?[:,] {_ARTICLE}?)(?P<things>.+)"
)
_SHOWN = re.compile(r"(?:is|are) (?:a|an|any|some) (?P<things>.+)")
_APART = re.compile(r"\s*,\s*(?:or\s+)?|\s+or\s+")
_NOT_KNOWN = frozenset(
    re.findall(
        r"\w+",
        """
        and not no nor with without in on at of to by from under over behind above below near next between
        than more less most many much few several one two three four five six seven eight nine ten left right
        front other same different red green blue yellow black white brown grey gray pink purple golden dark
        bright big small large little tall short old young new broken open closed empty full happy sad person
        people man men woman women child children boy girl baby human face someone anyone anybody text word
        words letter letters number numbers sign logo something anything nothing else my your his her their
        who whose that which is are
        """,
    )
)
_MOST_WORDS = 3  # of a thing


@dataclass(frozen=True)
class Asked:
    """A question that was understood."""

    kind: Literal["name", "yes_no", "choice"]
    things: tuple[str, ...] = ()  # one for yes or no, two or more to choose from; of a name, the kind of thing or none


def understand(question: str) -> Asked | None:
    """What is asked, up to the first question mark; None for all other questions."""
    words = " ".join(question.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").partition("?")[0].split())
    bare = _PLACE.sub("", words.rstrip(" .!:").removesuffix(" or not"))
    if name := _NAMES.fullmatch(bare):
        return Asked("name", (name["kind"],) if name["kind"] else ())
    found = _ASKS.fullmatch(bare) or (_SHOWN.fullmatch(bare) if bare != words else None)
    if found is None:
        return None
    things = tuple(re.sub(f"^{_ARTICLE}", "", thing.strip()) for thing in _APART.split(found["things"]))
    if not all(_is_thing(thing) for thing in things) or len(set(things)) < len(things):
        return None
    if len(things) > 1:
        return Asked("choice", things)
    return None if bare.startswith(("which", "what")) else Asked("yes_no", things)


def _is_thing(text: str) -> bool:
    words = text.split()
    acts = any(word.endswith("ing") for word in words[1:])  # "dog running"
    known = all(re.fullmatch(r"[a-z][a-z'-]*", word) and word not in _NOT_KNOWN for word in words)
    return 0 < len(words) <= _MOST_WORDS and known and not acts
