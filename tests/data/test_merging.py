"""Many descriptions to one caption."""

from midsight.data.merging import Words, merge_by_model, merge_by_rule, merge_prompt

WORDS = Words(
    clip="A man opens the door. He walks into the garden.",
    frames=("a man opens a door", "a garden with red roses", "the garden with roses"),
    title="Morning",
)


def test_the_rule_says_everything_once() -> None:
    expected = "Morning. A man opens the door. He walks into the garden. a garden with red roses."
    assert merge_by_rule(WORDS) == expected


def test_the_rule_keeps_to_the_length() -> None:
    assert merge_by_rule(WORDS, 7) == "Morning. A man opens the door."
    assert merge_by_rule(Words("one two three four five", ()), 3) == "one two three."
    assert all(len(merge_by_rule(WORDS, most).split()) <= most for most in range(1, 30))
    assert merge_by_rule(Words("", ())) == ""


def test_a_language_model_is_a_function() -> None:
    prompts = []

    def generate(prompt: str) -> str:
        prompts.append(prompt)
        return "  A man goes\nout into his garden.  "

    assert merge_by_model(generate)(WORDS, 4) == "A man goes out"
    assert prompts == [merge_prompt(WORDS, 4)]
    assert "at most 4 words" in prompts[0]
    assert "Title: Morning" in prompts[0]
    assert "Frame 3: the garden with roses" in prompts[0]
    assert "Description" not in prompts[0]
