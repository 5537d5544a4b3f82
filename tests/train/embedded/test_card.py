"""The card: counts and licences come from the model and the packages, the table of results can be replaced."""

from pathlib import Path

import pytest
import torch

from midsight.checkpoints import load_pretrained, save_pretrained
from midsight.configs import PEConfig, PETextConfig, PreprocessConfig
from midsight.data.packaged import EVERYDAY, Picture
from midsight.evaluate.open_moji import Figure
from midsight.pe import CLIP
from midsight.train.embedded import card
from midsight.train.embedded.recipe import Recipe

VISION = PEConfig(
    patch_size=32, width=32, layers=1, heads=2, mlp_ratio=2.0, output_dim=16, ls_init_value=0.1, image_size=64,
    use_ln_pre=False, use_ln_post=False, stem="efficientnet_lite2",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("card") / "model"
    text = PETextConfig(context_length=8, width=16, heads=2, layers=1, output_dim=16)
    state = {key: value.half() if value.ndim else value for key, value in CLIP(VISION, text).state_dict().items()}
    state["token_embedding.weight"] = state["token_embedding.weight"].to(torch.float8_e4m3fn)
    save_pretrained(
        out, state, name="embedded", vision=VISION, text=text, preprocess=PreprocessConfig(image_size=64),
        metadata={"revision": "abc123"},
    )  # fmt: skip
    photographs = [Picture(Path("hills.jpg"), "photograph", (), "p", "CC-BY-4.0", "A Person")]
    furniture = [Picture(Path("chair.png"), "drawing", ("chair",), "f", "CC-BY-3.0", "A Carpenter")]
    card.write(out, Recipe(seed=9), photographs, furniture)
    return out


def test_the_card_names_sources_licences_and_settings(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    for wanted in ("hills.jpg: A Person, CC-BY-4.0", "A Carpenter", "WordNet", "Apache-2.0", "abc123", "seed = 9"):
        assert wanted in text
    assert "openmoji 17" not in text  # measuring only, so not among the training data
    assert "{" not in text.replace("{c}", "")


def test_the_card_counts_what_is_there(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    state, rows = load_pretrained(folder).state_dict, EVERYDAY.read_text().splitlines()
    trunk = sum(value.numel() for key, value in state.items() if key.startswith("visual.stem."))
    assert f"({trunk / 1e6:.1f} M parameters" in text
    assert f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB" in text
    assert f" {len(rows) - 1} labelled pictures" in text
    for line in ("samples = 40000", "text.layers = 4", "mixture.size = 224", "head.steps = 1200"):
        assert line in text


def test_results_are_replaced_and_nothing_else(folder: Path) -> None:
    before = (folder / "README.md").read_text()
    for value in (0.25, 0.5):
        clips = [Figure("clips, top-1", value + 0.1, 0.2, 0.3, 0.5, 8)]
        card.put_results(folder, [Figure("top-1", value, 0.2, 0.3, 0.001, 40)], clips)
    after = (folder / "README.md").read_text()
    assert "| top-1 | 50.0 (20.0 to 30.0) | 0.10 | 40 |" in after
    assert "| clips, top-1 | 60.0 (20.0 to 30.0) | 50.00 | 8 |" in after
    assert "25.0 (" not in after
    assert after.split(card.RESULTS)[0] == before.split(card.RESULTS)[0]
    assert after.split(card.AFTER)[1] == before.split(card.AFTER)[1]
