"""The text tower's batches are the tokenizer's, and a few steps bring texts to their places."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from midsight.errors import ConfigError
from midsight.tasks.templates import get_templates
from midsight.train.embedded import texts, vocabulary
from midsight.transforms import get_text_tokenizer
from midsight.transforms.tokenizer import END_ID, START_ID, TextTokenizer
from tests import peers
from tests.train.embedded import small

NAMES = [
    "tabby", "musical instrument", "T-shirt", "café au lait", "o'clock", "don't", "7-up", "日本語", "&amp; co",
    "rock 'n' roll", "x" * 30, "three-toed sloth", "Crème brûlée", "jack-o'-lantern", " ".join(["long"] * 40),
    "  two  ",
]  # fmt: skip
TEMPLATES = (*texts.PLAIN, *get_templates("imagenet1k"))


@pytest.fixture
def data(words: vocabulary.Vocabulary) -> texts.Material:
    pools = (_flat(words.class_names), words.broad, _flat(words.captions))
    tokenizer = get_text_tokenizer(small.TEXT.context_length)
    return texts.material(
        tokenizer, words.texts, words.targets, words.words.classes, pools, small.TEXT.longest
    )  # fmt: skip


def _flat(groups: list[list[int]]) -> torch.Tensor:
    return torch.tensor(sorted({row for group in groups for row in group}))


def whole(tokenizer: TextTokenizer, text: str, length: int) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # long ones are cut, which it says
        return tokenizer([text], context_length=length)[0]


@pytest.mark.parametrize("longest", [8, 20])
def test_put_together_are_the_ids_of_the_whole_text(longest: int) -> None:
    tokenizer = get_text_tokenizer(64)
    none = torch.zeros(0, dtype=torch.long)
    found = texts.material(tokenizer, NAMES, torch.zeros(len(NAMES), 4), torch.zeros(1, 4), (none,) * 3, longest)
    assert found.before.shape == found.after.shape == (len(TEMPLATES), 12)
    cut = 0
    for number, template in enumerate(TEMPLATES):
        rows = torch.full((len(NAMES),), number)
        ids = texts.put_together((found.before[rows], found.tokens, found.after[rows]), longest)
        for row, name in zip(ids, NAMES, strict=True):
            expected = whole(tokenizer, template.format(c=name), longest)
            assert torch.equal(row, expected), (template, name)
            cut += len(tokenizer.encode(template.format(c=name))[0]) > longest - 2
    assert cut > 20


def test_put_together_with_nothing_around() -> None:
    ids = texts.put_together((torch.tensor([[0, 5, 0, 7]]), torch.tensor([[0, 0]]), torch.tensor([[9, 0]])), 8)
    assert ids.tolist() == [[START_ID, 5, 7, 9, END_ID, 0, 0, 0]]
    assert texts.put_together((torch.zeros(1, 3),), 4).tolist() == [[START_ID, END_ID, 0, 0]]


def test_the_seam_of_two_signs_is_the_one_that_differs() -> None:
    tokenizer = get_text_tokenizer(16)
    name, stop = (tokenizer([text])[:, 1:4] for text in ("St.", "."))
    ids = texts.put_together([part.masked_fill(part == END_ID, 0) for part in (name, stop)], 16)
    assert not torch.equal(ids, tokenizer(["St.."])[:, : ids.shape[1]])
    assert torch.equal(ids, tokenizer(["St. ."])[:, : ids.shape[1]])


def test_batches(data: texts.Material, words: vocabulary.Vocabulary) -> None:
    config = replace(small.TEXT, bare=1.0, batch=64)
    tokens, target = texts.TextBatches(config, data, seed=0)()
    assert (tokens.dtype, tokens.shape, target.shape) == (torch.int64, (64, config.longest), (64, small.WORDS.width))
    tokenizer = get_text_tokenizer(config.longest)
    rows = {tuple(ids): row for row, ids in reversed(list(enumerate(tokenizer(words.texts).tolist())))}
    chosen = torch.tensor([rows[tuple(ids)] for ids in tokens.tolist()])
    torch.testing.assert_close(target, words.targets[chosen], rtol=0, atol=1e-3)
    ends = [0, 16, 24, 32]  # a quarter, an eighth and another of the batch
    for first, last, pool in zip(ends, ends[1:], (data.of_classes, data.of_broad, data.of_captions), strict=False):
        assert set(chosen[first:last].tolist()) <= {rows[tuple(tokenizer(words.texts[i])[0].tolist())] for i in pool}
    assert len(set(chosen[32:].tolist())) > 20


def test_names_stand_alone_or_in_a_template(data: texts.Material) -> None:
    def lengths(bare: float) -> torch.Tensor:
        tokens, _ = texts.TextBatches(replace(small.TEXT, bare=bare, batch=400), data, seed=0)()
        return (tokens != 0).sum(1).float()

    assert lengths(0.0).mean() > lengths(0.5).mean() > lengths(1.0).mean() + 1


def test_batches_follow_the_seed(data: texts.Material) -> None:
    one, same, other = (texts.TextBatches(small.TEXT, data, seed) for seed in (3, 3, 4))
    first = one()
    assert torch.equal(first[0], same()[0])
    assert not torch.equal(first[0], other()[0])
    assert not torch.equal(first[0], one()[0])
    assert torch.equal(one.pictures(), (same(), same.pictures())[1])


def test_made_up_pictures_lie_where_pictures_do(data: texts.Material, words: vocabulary.Vocabulary) -> None:
    found = texts.TextBatches(replace(small.TEXT, pictures=200), data, seed=0).pictures()
    assert found.shape == (200, small.WORDS.width)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(200))
    assert found[:, -1].abs().max() == 0
    likeness = found @ F.normalize(words.words.classes, dim=-1).T
    assert likeness.max(1).values.median() > 0.6


def test_a_few_steps_bring_texts_to_their_places(data: texts.Material, words: vocabulary.Vocabulary) -> None:
    torch.manual_seed(0)
    tower = texts.new_tower(small.TEXT, small.WORDS.width)
    tokenizer = get_text_tokenizer(small.TEXT.context_length)

    def distance() -> float:
        found = texts.encode_all(tower.eval(), tokenizer, words.texts[: words.names])
        return float(1 - (found * words.targets[: words.names]).sum(-1).mean())

    before = distance()
    trained = texts.train_text(replace(small.TEXT, lr=0.02), tower, data, seed=0)
    assert trained is tower
    assert not tower.training
    assert distance() < 0.5 * before


def test_texts_in_parts_are_the_tower_s_with_its_gradients(data: texts.Material) -> None:
    torch.manual_seed(0)
    tower = texts.new_tower(small.TEXT, small.WORDS.width)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens, target = texts.TextBatches(replace(small.TEXT, batch=45), data, seed=0)()

    def both(embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tower.zero_grad()
        embedded = F.normalize(embedded.float(), dim=-1)
        (embedded * target).sum().backward()
        return embedded.detach(), torch.cat([p.grad.flatten() for p in tower.parameters() if p.grad is not None])

    (found, slope), (expected, wanted) = both(texts.embed(tower, tokens)), both(tower(tokens))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)  # bfloat16 beside float32
    assert F.cosine_similarity(slope, wanted, dim=0) > 0.999
    assert F.cosine_similarity(found, expected).min() > 0.999
    assert F.cosine_similarity(found, expected.roll(1, 0)).min() < 0.95


class Stopped(Exception):
    """What ends a run in the middle."""


def test_a_stopped_run_ends_in_the_same_weights(
    data: texts.Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(texts, "KEEP_EVERY", 2)
    config = replace(small.TEXT, steps=7)

    def train(kept: Path | None, stop_at: int | None = None, steps: int = 7) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        tower = texts.new_tower(config, small.WORDS.width)
        step = texts.TextRun.advance

        def advance(run: texts.TextRun) -> dict[str, float]:
            if run.step == stop_at:
                raise Stopped
            return step(run)

        with monkeypatch.context() as patch:
            patch.setattr(texts.TextRun, "advance", advance)
            return texts.train_text(replace(config, steps=steps), tower, data, seed=0, kept=kept).state_dict()

    whole, kept = train(None), tmp_path / "text.state"
    with pytest.raises(Stopped):
        train(kept, stop_at=5)
    resumed = train(kept)
    assert all(torch.equal(whole[key], value) for key, value in resumed.items())
    with caplog.at_level("INFO"), pytest.raises(Stopped):
        train(kept, stop_at=0, steps=6)
    assert "other settings" in caplog.text
    kept.write_bytes(kept.read_bytes()[:1000])
    with caplog.at_level("INFO"), pytest.raises(Stopped):
        train(kept, stop_at=0)
    assert "cannot be read" in caplog.text


def test_the_ranking_is_zero_at_the_places_alone(words: vocabulary.Vocabulary) -> None:
    pictures = words.words.image(torch.eye(len(small.CLASSES)))
    places = words.targets[:20]
    assert texts._ranking(pictures, places, places, 100.0).item() == pytest.approx(0.0, abs=1e-5)
    assert texts._ranking(pictures, places.roll(1, 0), places, 100.0) > 0.1


def test_the_table_starts_as_the_sentence_encoder_sees_spellings() -> None:
    torch.manual_seed(0)
    tower = texts.new_tower(small.TEXT, small.WORDS.width)
    behind = tower.token_embedding.weight[300:].clone()
    low = torch.randn(300, 10) @ torch.randn(10, 384)  # sixteen axes hold all of it
    texts.start_table(tower, low, 0.1)
    table = tower.token_embedding.weight.detach()
    assert table[:300].std().item() == pytest.approx(0.1, rel=1e-4)
    assert torch.equal(table[300:], behind)
    centred = low - low.mean(0)
    wanted, found = centred @ centred.T, table[:300] @ table[:300].T
    torch.testing.assert_close(found / found.norm(), wanted / wanted.norm(), rtol=1e-3, atol=1e-5)


def test_encoding_many_is_encoding_each() -> None:
    tower = peers.randomize(texts.new_tower(small.TEXT, small.WORDS.width)).eval()
    tokenizer = get_text_tokenizer(small.TEXT.context_length)
    said = ["a photo of a tabby", "fig", "two gondolas side by side", "", "jeep"]
    found = texts.encode_all(tower, tokenizer, said)
    with torch.inference_mode():
        expected = torch.cat([F.normalize(tower(tokenizer([text])), dim=-1) for text in said])
    assert (expected[0] - expected[1]).norm() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_tower_narrower_than_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"text\.width 16 is less than the 17"):
        texts.new_tower(small.TEXT, 17)
