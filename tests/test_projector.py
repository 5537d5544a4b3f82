import re
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.projector import Rows, Settings, SoftWords

NAMES = {f"{letter}thing{i}": [f"kind{i % 3}", "thing"] for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}


def places() -> Tensor:
    return F.normalize(torch.randn(len(NAMES), 64, generator=torch.Generator().manual_seed(1)), dim=1)


def rows(**changes: object) -> Rows:
    return Rows(NAMES, places(), replace(Settings(batch=400), **changes))


def test_made_up_pictures_are_nearest_to_their_name_unless_mixed_and_noisy() -> None:
    numbers = torch.arange(len(NAMES))
    plain = rows(mixed=0.0, noise=0.0)._pictures(numbers)
    torch.testing.assert_close(plain, places())
    found = rows()._pictures(numbers)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(NAMES)))
    assert (found @ places().T).argmax(1).eq(numbers).float().mean() > 0.9
    assert (found * places()).sum(1).mean() < 0.95


def test_questions_have_right_answers() -> None:
    seen = rows()
    numbers = list(range(len(NAMES))) * 40
    answers = []
    for number in numbers:
        question, answer = seen._row(number)
        name = list(NAMES)[number]
        if found := re.fullmatch(r"Is there an? (\w+) in the picture\?", question):
            assert answer == ("Yes" if found[1] in (name, *NAMES[name]) else "No")
            answers.append(answer)
        else:
            assert answer.split(" ", 1)[1] == name
            options = re.findall(r"an? (\w+thing\d+)", question)
            assert not options or (len(options) == 4 and name in options)
    assert 0.35 < answers.count("Yes") / len(answers) < 0.65, "neither answer is right without looking"


def test_batches_follow_from_the_seed() -> None:
    (a, asked), (b, asked_again), (c, _) = rows().batch(), rows().batch(), rows(seed=1).batch()
    assert torch.equal(a, b)
    assert asked == asked_again
    assert not torch.equal(a, c)


def test_soft_words_are_as_long_as_words() -> None:
    torch.manual_seed(0)
    words = SoftWords(64, 32, 48, 3.0)(places())
    assert words.shape == (len(NAMES), 4, 48)
    torch.testing.assert_close(words.norm(dim=-1), torch.full((len(NAMES), 4), 3.0))
    assert (words[0] - words[1]).abs().max() > 0.1
