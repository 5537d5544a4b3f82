"""What a language model is told: the text of the pages, the question, how to answer."""

BRIEFLY = "Answer with a single word or phrase."
EMPTY = "(no text)"


def free_prompt(text: str, question: str, sees: bool) -> str:
    """For an answer in the model's own words; what stands on the page goes before the question.

    Args:
        text: of the pages; may be empty where the model sees them.
        question: as asked.
        sees: the model gets the pages as pictures, too.
    """
    text = text or ("" if sees else EMPTY)
    return f"Text on the page:\n{text}\n\n{question}\n{BRIEFLY}" if text else f"{question}\n{BRIEFLY}"


def scoring_prompt(text: str, question: str) -> str:
    """For scoring answers: plain text without the marks of a chat, which small models go on with best."""
    return f"{text or EMPTY}\n\nQuestion: {question}\nAnswer:"
