"""What the embedded pair learns from. How it learns is `midsight/train/recipes/lang_embedded.toml`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PairRecipe:
    """Rows of training, all from made or openly licensed pictures; the same values give the same rows."""

    seed: int = 0
    text_tokens: int = 640  # of a page's text; longer pages keep the lines nearest to their first question
    pictured: int = 4500  # documents that come with their picture; the others are their text alone
    unread: float = 0.25  # share of pictured charts, infographics and cards that come without their text
    several: float = 0.12  # share of rows with pages of other documents beside the one that is asked about
    misread: float = 0.5  # share of documents whose words have the faults of OCR
    reworded: float = 0.3  # share of "What is the ..." that is asked in fewer words
    drawings: int = 5000  # named drawings on plain grounds and photographs
    scenes: int = 3000  # rendered pictures of furniture, captioned
    clips: int = 240  # rendered clips, captioned, as frames
    frames: int = 4  # of a clip
    side: int = 448  # of a document's longer side, pixels
    small: int = 224  # side of drawings, scenes and frames
    quality: int = 35  # of WebP
    left_out: tuple[str, ...] = ("locate", "read_box", "sum")  # kinds of questions that text alone does not answer
