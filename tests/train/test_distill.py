"""Teachers, and a student that comes near one."""

from pathlib import Path

import pytest
import torch

from midsight.errors import ConfigError
from midsight.train.distill import PairTeacher, open_teacher
from tests.train import memory, small


def test_a_teacher_sees_the_batch_at_its_own_resolution() -> None:
    teacher = PairTeacher(small.pair(seed=3))
    images, texts = small.batch(3)
    features, encoded = teacher(images, texts)
    torch.testing.assert_close(features, teacher.model.encode_image(images))
    torch.testing.assert_close(encoded, teacher.model.encode_text(texts))
    smaller, _ = teacher(small.batch(3, size=16)[0], texts)
    assert smaller.shape == features.shape
    assert not features.requires_grad
    clips, _ = teacher(images[:, None].repeat(1, 4, 1, 1, 1), texts)
    torch.testing.assert_close(clips, features)


def test_a_student_learns_from_its_teacher(tmp_path: Path) -> None:
    config = memory.tiny(
        "optim.lr=0.02", "steps.mask=false", "steps.augment=false", "stages=[{image_size=16, samples=800}]",
        "run.save_every=1000",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        from midsight import pe

        teacher = PairTeacher(pe.CLIP(*memory.towers(config, 16)))
    seen: list[float] = []
    memory.trainer(
        config, tmp_path, memory.MemorySource(samples=16), memory.alone(), teacher=teacher,
        report=lambda record: seen.append(record["loss"]),
    ).run()  # fmt: skip
    assert seen[-1] < 0.5 * seen[0]


def test_teachers_that_cannot_be_are_refused(tiny_folder: Path, dense_folder: Path) -> None:
    assert open_teacher(str(tiny_folder), torch.device("cpu"), 16).model.image_size == 32
    with pytest.raises(ConfigError, match="reads 16 tokens, the student 32"):
        open_teacher(str(tiny_folder), torch.device("cpu"), 32)
    with pytest.raises(ConfigError, match="has no text tower"):
        open_teacher(str(dense_folder), torch.device("cpu"), 16)
