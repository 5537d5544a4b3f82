"""Packed rows do not see each other: losses, gradients and logits are those of the rows one by one."""

import pytest
import torch

from midsight.errors import CheckpointError
from midsight.plm import PLM
from midsight.plm.packing import Pack, check_packable, loss_sum, pack, packed_logits, packs
from midsight.plm.rows import LearntRow, RowReader
from tests import peers
from tests.plm import tiny
from tests.plm.conversations import picture, question


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    return tiny.plm(tmp_path_factory.mktemp("tokenizer"), "chatml").train()


@pytest.fixture(scope="module")
def rows(model: PLM, tmp_path_factory: pytest.TempPathFactory) -> list[LearntRow]:
    folder = tmp_path_factory.mktemp("rows")
    picture(folder / "a.png", "red", (120, 56))
    picture(folder / "b.png", "green")
    assert model.tokenizer is not None
    reader = RowReader(model.config, model.tokenizer, 300)
    records = [
        question("What colour?", "red, all over", image="a.png"),
        question("And without a picture?", "none"),
        question("Is it green?", "yes", image="b.png"),
    ]
    return [reader.read(str(index), record, folder) for index, record in enumerate(records)]


def logits_of(model: PLM, batch: Pack) -> torch.Tensor:
    embeds = model.embed(batch.input_ids[None], batch.tiles)[0]
    return packed_logits(model.language_model, embeds, batch)


def test_loss_and_gradients_are_those_of_the_rows_one_by_one(model: PLM, rows: list[LearntRow]) -> None:
    found = []
    for batches in ([pack(rows)], [pack([row]) for row in rows]):
        model.zero_grad()
        losses = [loss_sum(logits_of(model, batch), batch.targets) for batch in batches]
        torch.stack(losses).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((float(torch.stack(losses).sum().detach()), gradients))
    (packed, ours), (single, theirs) = found
    assert packed == pytest.approx(single, rel=1e-6)
    assert single > 10
    assert len(ours) == len(theirs) == len(list(model.parameters()))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=2e-4, atol=2e-5 * float(gradient.abs().max()) + 1e-7)


def test_the_loss_of_a_row_is_the_language_models_own(model: PLM, rows: list[LearntRow]) -> None:
    """Against transformers' own loss with the same labels."""
    for row in rows:
        batch = pack([row])
        embeds = model.embed(row.input_ids[None], row.tiles)
        own = model.language_model(inputs_embeds=embeds, labels=row.labels[None]).loss  # a mean over learnt tokens
        ours = loss_sum(logits_of(model, batch), batch.targets) / len(batch.targets)
        torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_change_in_one_row_leaves_the_others_untouched(model: PLM, rows: list[LearntRow]) -> None:
    first = rows[0]
    other_ids = first.input_ids.clone()
    other_ids[3:9] = other_ids[3:9].flip(0)
    assert first.tiles is not None
    other = LearntRow("other", other_ids, first.labels, first.tiles.flip(-1) + 0.3)
    before, after = (logits_of(model, pack([row, *rows[1:]])) for row in (first, other))
    own = len(pack([first]).targets)
    assert torch.equal(before[own:], after[own:])
    assert (before[:own] - after[:own]).abs().max() > 0.01


def test_packs_hold_whole_rows_in_order(rows: list[LearntRow]) -> None:
    lengths = [len(row.input_ids) for row in rows]
    made = list(packs(rows * 2, sum(lengths[:2])))
    assert [key for batch in made for key in batch.keys] == ["0", "1", "2"] * 2
    assert made[0].keys == ("0", "1")
    assert all(len(batch.input_ids) <= sum(lengths[:2]) for batch in made)
    assert sum(len(batch.targets) for batch in made) == 2 * sum(int((row.labels != -100).sum()) for row in rows)
    assert [batch.keys for batch in packs(rows, 1)] == [("0",), ("1",), ("2",)]  # longer than the pack: alone


def test_the_first_token_of_a_row_is_not_predicted_from_the_row_before() -> None:
    row = LearntRow("a", torch.tensor([5, 6, 7]), torch.tensor([5, 6, 7]), None)
    batch = pack([row, row])
    assert batch.predicting.tolist() == [0, 1, 3, 4]
    assert batch.targets.tolist() == [6, 7, 6, 7]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("kind", ["mamba", "lfm2", "llama", "qwen2", "gpt2", "mistral"])
def test_a_model_that_would_mix_rows_is_refused(kind: str) -> None:
    """State space and convolution reach over the border; attention does not."""
    from midsight.plm.model import build_language_model

    sizes = dict(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    sizes |= dict(num_key_value_heads=2)
    more = {"lfm2": dict(layer_types=["conv", "full_attention"]), "gpt2": dict(n_embd=32)}
    model = peers.randomize(build_language_model(dict(sizes, model_type=kind, **more.get(kind, {}))).eval())
    if kind in ("mamba", "lfm2"):
        with pytest.raises(CheckpointError, match="packed rows would see each other"):
            check_packable(model)
    else:
        check_packable(model)
