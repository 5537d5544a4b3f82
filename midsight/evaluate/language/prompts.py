"""How each benchmark's questions are put to the model: one table.

Published means: as lmms-eval puts them, with which the published figures of PerceptionLM were made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsight.evaluate.metrics.choices import LETTERS

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
FRAMES = 32  # of a video with a marked region; questions count in them


@dataclass(frozen=True)
class Prompt:
    """The text around a question, and how long the answer may be."""

    after: str = ""
    before: str = ""
    between: str = "\n"  # question and options
    mark: Literal["A. ", "(A) "] = "A. "  # in front of an option
    max_new_tokens: int = 16
    source: str = "lmms-eval"

    def ask(self, question: str, options: Sequence[str] = ()) -> str:
        """The whole text."""
        lines = [self.mark.replace("A", LETTERS[index]) + option for index, option in enumerate(options)]
        listed = self.between + "\n".join(lines) if lines else ""
        return self.before + question + listed + self.after


PROMPTS = {
    "docvqa": Prompt(SHORT, max_new_tokens=32),
    "infographicvqa": Prompt(SHORT, max_new_tokens=32),
    "chartqa": Prompt("\nAnswer the question with a single word."),
    "textvqa": Prompt("\nProvide a short and direct response.", source="lmms-eval, its text for plm"),
    "vqav2": Prompt(SHORT),
    "ai2d": Prompt(LETTER),
    "mvbench": Prompt("\nOnly give the best option.\n", "Question:", "\nOption:\n", "(A) "),
    "perceptiontest": Prompt(LETTER),
    "refcoco": Prompt(
        ".\nAnswer with its bounding box as [x0,y0,x1,y1], three digits each.",
        "Find the region that this describes: ",
        max_new_tokens=32,
        source="our choice",
    ),
    "coco": Prompt("Describe the image briefly.", max_new_tokens=64),
    "fgqa": Prompt("\nOnly give the best option.", "Question: ", "\nOptions:\n", "(A) "),
    "rtloc": Prompt(
        f"' happens. Use the format [start, end] where start and end are frame numbers between 0 and {FRAMES - 1} in "
        f"this {FRAMES} frame video.",
        "Given the region marked by the red rectangle in the video, please provide the start and end frame of when '",
    ),
    "rcap": Prompt(
        " frame video.",
        "Give a detailed description of the events occurring in the region marked by the red rectangle within frames ",
        max_new_tokens=512,
    ),
}
