"""Plans against exact counts and published figures."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from midsight import pe
from midsight.configs import MODELS
from midsight.errors import ConfigError
from midsight.train import plan
from midsight.train.config import read_recipe
from tests.train import small


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.text is not None])
def test_parameters_are_those_of_the_models(name: str) -> None:
    with torch.device("meta"):
        model = pe.CLIP.from_config(name)
    vision = sum(p.numel() for p in model.visual.parameters())
    assert plan.vision_parameters(MODELS[name].vision) == vision
    text = sum(p.numel() for p in model.parameters()) - vision - 1
    assert plan.text_parameters(MODELS[name].text) == text


def test_flops_are_those_that_torch_counts() -> None:
    model = small.pair()
    images, texts = small.batch(1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted, torch.no_grad():
        model.encode_image(images)
    assert plan.vision_flops(small.VISION, 32) == counted.get_total_flops()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted, torch.no_grad():
        model.encode_text(texts)
    assert plan.text_flops(small.TEXT) == counted.get_total_flops()


def test_progressive_resolution_saves_what_the_shapes_say() -> None:
    def flops(*off: str) -> float:
        config = read_recipe("core_ablation_l14", [f"steps.{name}=false" for name in off])
        return plan.make_plan(config, plan.Assumptions()).flops

    rest = ("large_batch", "lamb", "high_resolution", "rope2d", "attn_pool", "augment", "mask")
    # The tokens alone give (7**2 + 11**2 + 16**2) / 3 / 16**2 = 0.55; the text tower costs the same at each resolution.
    assert 0.55 < flops(*rest) / flops("progressive", *rest) < 0.61
    # Step 5 adds a stage at 336 "at the same FLOPs" (1.07 with the text tower).
    assert flops("rope2d", "attn_pool", "augment", "mask") / flops(*rest[2:]) == pytest.approx(1.0, abs=0.07)


def test_more_gpus_need_less_time_and_memory_each() -> None:
    config = read_recipe("core_g14")
    few, many = (plan.make_plan(config, plan.Assumptions(gpus=n)) for n in (256, 512))
    assert many.hours == pytest.approx(few.hours / 2)
    assert many.cost == pytest.approx(few.cost)
    assert many.memory_gib < few.memory_gib
    assert many.memory_gib < 80
    assert len(many.stages) == 5


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="131072 cannot be shared evenly by 7"):
        plan.make_plan(read_recipe("core_l14"), plan.Assumptions(gpus=7))
