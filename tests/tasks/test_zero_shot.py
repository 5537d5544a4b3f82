"""Templates, classifiers and ranking."""

import hashlib

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, ShapeError
from midsight.tasks.zero_shot import build_classifier, check_labels, get_templates, rank, resolve_templates


def encode(texts: list[str]) -> Tensor:
    """A feature that depends on the whole text, of a length that differs from text to text."""
    rows = [torch.tensor(list(hashlib.sha256(text.encode()).digest()), dtype=torch.float32) for text in texts]
    return torch.stack(rows) - 100


def test_imagenet_templates_are_open_clips() -> None:
    ours = [template.replace("{c}", "garden spider") for template in get_templates("imagenet1k")]
    assert ours == [template("garden spider") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert get_templates("imagenet") == get_templates("imagenet1k")


def test_kinetics_templates() -> None:
    templates = get_templates("kinetics")
    assert len(set(templates)) == 28
    assert templates[0] == "a photo of {c}."
    assert templates[9] == "a video of a person using {c}."
    assert templates[-1] == "a demonstration of a person practicing {c}."
    assert get_templates("k400") == templates


def test_short_templates() -> None:
    assert get_templates("plain") == ["{c}"]
    assert get_templates("photo") == ["a photo of a {c}."]
    get_templates("plain").append("changed")
    assert get_templates("plain") == ["{c}"], "the caller's list must be the caller's own"


def test_unknown_templates_name_the_known_ones() -> None:
    with pytest.raises(InputError, match="'imagnet'.*imagenet1k, kinetics, photo, plain"):
        get_templates("imagnet")


def test_resolving_templates() -> None:
    assert resolve_templates(None) == ["{c}"]
    assert resolve_templates("photo") == ["a photo of a {c}."]
    assert resolve_templates("my {c}") == ["my {c}"]
    assert resolve_templates(["a {c}", "the {c}"]) == ["a {c}", "the {c}"]
    with pytest.raises(InputError, match="empty list"):
        resolve_templates([])
    with pytest.raises(InputError, match="'a photo' has no {c}"):
        resolve_templates(["a photo"])


def test_classifier_is_the_normalised_mean_of_normalised_features() -> None:
    names, templates = ["dog", "red panda", "dog house"], ["a {c}.", "{c} beside {c}", "no {c} at all"]
    actual = build_classifier(encode, names, templates)
    assert actual.shape == (32, 3)
    for column, name in enumerate(names):
        rows = F.normalize(encode([template.replace("{c}", name) for template in templates]), dim=1)
        torch.testing.assert_close(actual[:, column], F.normalize(rows.mean(0), dim=0))


def test_a_large_vocabulary_is_encoded_in_groups() -> None:
    sizes: list[int] = []

    def counting(texts: list[str]) -> Tensor:
        sizes.append(len(texts))
        return encode(texts)

    names = [f"thing {i}" for i in range(30)]
    grouped = build_classifier(counting, names, get_templates("imagenet1k"))
    assert sum(sizes) == 2400
    assert max(sizes) <= 1024
    alone = build_classifier(encode, names[25:26], get_templates("imagenet1k"))
    torch.testing.assert_close(grouped[:, 25:26], alone)


def test_classifier_refuses_what_cannot_be() -> None:
    with pytest.raises(InputError, match="no class names"):
        build_classifier(encode, [], ["{c}"])
    with pytest.raises(ShapeError, match="for 2 texts"):
        build_classifier(lambda texts: torch.zeros(3, 4), ["a", "b"], ["{c}"])


def test_labels() -> None:
    assert check_labels([" a dog", "a cat "]) == ["a dog", "a cat"]
    with pytest.raises(InputError, match="no labels"):
        check_labels([])
    with pytest.raises(InputError, match="label 2 is '  '"):
        check_labels(["a", "  "])
    with pytest.raises(InputError, match="more than once: 'a', 'b'"):
        check_labels(["b", "a", "c", "a ", "b"])
    with pytest.raises(InputError, match="single text"):
        check_labels("a dog")
    with pytest.raises(InputError, match="label 1 is 3"):
        check_labels([3])  # type: ignore[list-item]


def test_rank() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0])
    best = rank(logits, ["a", "b", "c"])
    assert [p.label for p in best] == ["b", "c", "a"]
    assert sum(p.score for p in best) == pytest.approx(1)
    assert best[0].score == pytest.approx(logits.softmax(0)[1].item())
    assert rank(logits, ["a", "b", "c"], top_k=2) == best[:2]
    assert rank(logits, ["a", "b", "c"], top_k=9) == best
    with pytest.raises(InputError, match="top_k"):
        rank(logits, ["a", "b", "c"], top_k=0)
    with pytest.raises(ShapeError, match="expected \\(2,\\)"):
        rank(logits, ["a", "b"])
