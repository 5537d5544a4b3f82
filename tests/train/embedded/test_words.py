"""The shared space: products of probabilities and profiles as cosines, and what WordNet says of each meaning."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from midsight.data.wordnet import WordNet
from midsight.train.embedded import words
from midsight.train.embedded.words import WordsConfig
from tests.train.embedded import small

COUNT = len(small.CLASSES)


def some(rows: int, rank: int = COUNT, seed: int = 0) -> Tensor:
    """Profiles (rows, classes), not negative, of a rank."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, rank, generator=generator) @ torch.rand(rank, COUNT, generator=generator) / rank


def probabilities(rows: int) -> Tensor:
    return (4 * torch.randn(rows, COUNT, generator=torch.Generator().manual_seed(9))).softmax(-1)


def test_texts_have_one_length_and_pictures_no_last_coordinate() -> None:
    space = words.build_words(WordsConfig(width=12, longest=0.9), some(200))
    texts, images = space.text(some(60, seed=1) * 3), space.image(probabilities(5))
    assert (texts.shape, images.shape, space.classes.shape) == ((60, 12), (5, 12), (COUNT, 12))
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(60))
    torch.testing.assert_close(images.norm(dim=-1), torch.ones(5))
    assert images[:, -1].abs().max() == 0
    assert texts[:, -1].min() >= 0


def test_the_score_is_the_product_up_to_the_truncation() -> None:
    shares, profiles = probabilities(7), some(90, rank=6)
    space = words.build_words(WordsConfig(width=7, longest=1.0), profiles)  # six axes hold all of rank six
    scores = (shares @ space.classes) @ (space.length * space.text(profiles)).T
    torch.testing.assert_close(scores, shares @ profiles.T, rtol=1e-4, atol=1e-4)
    narrow = words.build_words(WordsConfig(width=4, longest=1.0), profiles)
    error = (shares @ narrow.classes) @ (narrow.length * narrow.text(profiles)).T - shares @ profiles.T
    assert 1e-3 < error.norm() < 0.2 * (shares @ profiles.T).norm()


def test_at_full_width_cosines_rank_as_products_do() -> None:
    shares, profiles = probabilities(20), some(300) * torch.linspace(0.5, 2, 300)[:, None]
    space = words.build_words(WordsConfig(width=COUNT + 1, longest=1.0), profiles)
    cosines = space.image(shares).double() @ space.text(profiles).double().T
    products = shares.double() @ profiles.double().T
    sizes = products / cosines
    torch.testing.assert_close(sizes, sizes[:, :1].expand_as(sizes), rtol=1e-4, atol=0)  # one factor a picture
    lengths = profiles.norm(dim=-1)
    assert lengths.max() > 2 * lengths.min()  # plain cosines of profiles would rank otherwise
    plain = shares @ (profiles / lengths[:, None]).T
    assert (plain.argmax(1) != products.argmax(1)).any()


def test_the_few_longer_texts_are_cut_to_the_length_of_all() -> None:
    profiles = some(100)
    profiles[:2] *= 50
    space = words.build_words(WordsConfig(width=COUNT + 1, longest=0.97), profiles)
    lengths = (profiles @ space.classes[:, :-1]).norm(dim=-1)
    assert space.length == pytest.approx(float(lengths.sort().values[96]))
    texts = space.text(profiles)
    assert texts[:2, -1].abs().max() < 1e-3
    assert texts[2:, -1].max() > 0.05


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(small.write_wordnet(tmp_path_factory.mktemp("wordnet")) / "usr/share/wordnet")


def test_relatives(wordnet: WordNet) -> None:
    synsets = [*small.IDS.values()]
    found = words.relatives(wordnet, synsets, small.CLASSES)
    rows, columns = ({s: n for n, s in enumerate(ids)} for ids in (synsets, small.CLASSES))

    def row(name: str) -> Tensor:
        """As before it was divided by the root of its length."""
        own = found[rows[small.IDS[name]]]
        return own * own.norm()  # a row of length n is divided by its root, which leaves that root as its length

    def column(name: str) -> int:
        return columns[small.IDS[name]]

    tabby = row("tabby")
    assert tabby[column("tabby")] == pytest.approx(2.0, rel=1e-5)  # what it covers, and likeness 1 to itself
    cats, animals = tabby[[column(n) for n in small.KINDS["cat"][1:]]], tabby[[column(n) for n in small.KINDS["dog"]]]
    assert 1 > cats.min() > animals.max() > 0
    assert tabby[[column(n) for n in (*small.KINDS["boat"], *small.KINDS["fruit"])]].abs().max() == 0
    cat = row("cat")
    assert cat[[column(n) for n in small.KINDS["cat"]]].min() > 1
    assert cat[[column(n) for n in small.KINDS["dog"]]].max() < 1
    assert row("animal")[[column(n) for n in small.KINDS["bird"]]].min() > 1


def test_likeness_is_lins_squared(wordnet: WordNet) -> None:
    synsets = [*small.IDS.values()]
    found = words.relatives(wordnet, synsets, small.CLASSES)
    total, below_animal = len(synsets), 1 + 3 + 12  # itself, three kinds, twelve names
    says_animal, says_name = -torch.tensor(below_animal / total).log(), torch.tensor(float(total)).log()
    tabby = found[synsets.index(small.IDS["tabby"])]
    beagle = small.CLASSES.index(small.IDS["beagle"])
    expected = (2 * says_animal / (says_name + says_name)) ** 2
    assert float(tabby[beagle] * tabby.norm()) == pytest.approx(float(expected), rel=1e-4)


def test_rows_are_divided_by_the_root_of_their_length(wordnet: WordNet) -> None:
    synsets = [*small.IDS.values()]
    found = words.relatives(wordnet, synsets, small.CLASSES)
    entity, fig = (found[synsets.index(small.IDS[name])] for name in ("entity", "fig"))
    assert entity.norm() == pytest.approx(COUNT**0.25, rel=1e-4)  # 24 ones, and no likeness: it says nothing
    siblings = (2 * torch.tensor(33 / 5).log() / (2 * torch.tensor(33.0).log())) ** 2
    assert float(fig.norm() ** 2) == pytest.approx(float((4 + 3 * siblings**2) ** 0.5), rel=1e-4)


def test_a_name_has_the_most_over_its_meanings() -> None:
    table = some(4)
    rows = {f"n{n}": n for n in range(4)}
    found = words.of_meanings({"bat": ["n0", "n2"], "cat": ["n3"]}, rows, table)
    assert torch.equal(found, torch.stack((torch.maximum(table[0], table[2]), table[3])))


def test_unknown_texts_take_from_their_nearest_names() -> None:
    config = WordsConfig(neighbours=2, sharpness=10.0)
    known = torch.eye(5)
    table = some(5)
    texts = torch.tensor([[0.8, 0.6, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, -1.0]])
    found = words.of_neighbours(config, texts, known, table)
    shares = torch.tensor([8.0, 6.0]).softmax(0)
    torch.testing.assert_close(found[0], 0.8 * (shares[0] * table[0] + shares[1] * table[1]))
    assert found[1].abs().max() < 1e-6  # like none of them


def test_the_space_of_wordnet_finds_each_class(wordnet: WordNet, tmp_path: Path) -> None:
    """Of a picture that is surely one class, the best text is that class's own name."""
    table = words.relatives(wordnet, [*small.IDS.values()], small.CLASSES)
    space = words.build_words(WordsConfig(width=COUNT + 1, longest=1.0), table)
    best = (space.image(torch.eye(COUNT)) @ space.text(table).T).argmax(1)
    assert [[*small.IDS.values()][row] for row in best] == small.CLASSES
