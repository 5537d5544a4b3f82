"""Teachers, and a student that comes near one."""

import copy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from midsight import pe
from midsight.errors import ConfigError
from midsight.train.config import LossConfig, TrainConfig
from midsight.train.core import train_core
from midsight.train.distill import PairTeacher, Teacher, check_widths, open_teacher
from tests.train import memory, small

HERE = "tests.train.test_distill"


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


def of_my_own(argument: str, device: torch.device, context_length: int) -> Teacher:
    """A teacher as a user writes one; found below by its import path."""
    width, given = int(argument), (str(device), context_length)

    def teach(media: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert given == ("cpu", texts.shape[1])
        generator = torch.Generator().manual_seed(3)
        table = torch.randn(3, width, generator=generator)
        return media.mean((2, 3)) @ table, torch.randn(len(texts), width, generator=generator)

    return teach


def test_a_teacher_of_ones_own_is_named_by_its_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])  # pytest imports tests under names of its own
    images, texts = small.batch(4)
    found = open_teacher(f"{HERE}:of_my_own:24", torch.device("cpu"), 8)(images, texts)
    expected = of_my_own("24", torch.device("cpu"), 8)(images, texts)
    assert found[0].shape == (4, 24)
    assert all(map(torch.equal, found, expected))


def test_the_argument_may_hold_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    module = ModuleType("own_teacher")
    module.make = lambda *arguments: seen.append(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_teacher", module)
    for argument in ("", "/a/folder with:signs.pt", "x=1,y=2"):
        open_teacher(f"own_teacher:make:{argument}", torch.device("cpu"), 8)
        assert seen[-1] == (argument, torch.device("cpu"), 8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_module:make:x", "no_such_module:make cannot be imported .*No module named 'no_such_module'"),
        ("math:no_such_function:x", "math:no_such_function cannot be imported"),
        ("math:pi:x", "math:pi is no function; expected module:function:argument"),
    ],
)
def test_import_paths_that_lead_nowhere(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.teacher: {message}"):
        open_teacher(source, torch.device("cpu"), 8)


def steps(folder: Path, teacher: Teacher, *changes: str) -> tuple[pe.CLIP, pe.CLIP]:
    """A pair before and after a few steps."""
    config = memory.tiny("steps.mask=false", "steps.augment=false", "stages=[{image_size=16, samples=64}]", *changes)
    run = memory.trainer(config, folder, memory.MemorySource(samples=16), memory.alone(), teacher=teacher)
    before = copy.deepcopy(run.model)
    run.run()
    return before, run.model


def of_width(width: int, config: TrainConfig | None = None) -> Teacher:
    config = config or memory.tiny()
    changed = replace(config, model=replace(config.model, **{  # type: ignore[arg-type]
        kind: getattr(config.model, kind) | {"output_dim": width} for kind in ("vision", "text")
    }))  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return PairTeacher(pe.CLIP(*memory.towers(changed, 16)))


STUDENT = memory.tiny().model.vision["output_dim"]


def test_the_teachers_texts_leave_the_text_tower_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, ran = of_width(STUDENT), []
    encode = pe.CLIP.encode_text

    def watched(self: pe.CLIP, text: torch.Tensor, *args: bool) -> torch.Tensor:
        ran.append(self is teacher.model)  # type: ignore[attr-defined]
        return encode(self, text, *args)

    monkeypatch.setattr(pe.CLIP, "encode_text", watched)
    before, after = steps(tmp_path / "idle", teacher, "loss.teacher_texts=true")
    assert ran
    assert all(ran)  # no pass of the student's
    start = dict(before.named_parameters())
    for name, parameter in after.named_parameters():
        if name.startswith("visual.") or name == "logit_scale":
            continue
        assert parameter.grad is None, name
        assert torch.equal(parameter, start[name]), name  # not even decayed
    assert not torch.equal(after.visual.proj, before.visual.proj)
    ran.clear()
    before, after = steps(tmp_path / "both", teacher)
    assert not all(ran)
    assert not torch.equal(after.text_projection, before.text_projection)


def test_micro_batches_do_not_change_what_the_teachers_texts_give(tmp_path: Path) -> None:
    one, four = (
        steps(tmp_path / str(rows), of_width(STUDENT), "loss.teacher_texts=true", f"data.micro_batch={rows}")[1]
        for rows in (16, 4)
    )
    torch.testing.assert_close(one.visual.proj, four.visual.proj, rtol=1e-3, atol=1e-5)


def test_a_weight_of_zero_is_the_loss_without_it(tmp_path: Path) -> None:
    """Also of a teacher of another width, which could give no place."""
    teacher = of_width(STUDENT)
    plain, zero, some = (
        steps(tmp_path / name, teacher, *changes)[1].visual.proj
        for name, changes in (
            ("plain", ()), ("zero", ("loss.teacher_features=0.0",)), ("some", ("loss.teacher_features=3.0",))
        )
    )  # fmt: skip
    assert torch.equal(plain, zero)
    assert not torch.allclose(plain, some, atol=1e-5)
    wide = of_width(STUDENT + 8)
    assert torch.isfinite(steps(tmp_path / "wide", wide, "loss.teacher_features=0.0")[1].visual.proj).all()


@pytest.mark.parametrize("change", ["loss.teacher_texts=true", "loss.teacher_features=0.5"])
def test_a_teacher_of_another_width_is_refused_where_its_place_is_wanted(change: str, tmp_path: Path) -> None:
    name = change.partition("=")[0].replace(".", r"\.")
    with pytest.raises(
        ConfigError, match=rf"{name}: the teacher's embeddings have {STUDENT + 8} .* student's {STUDENT}"
    ):
        steps(tmp_path / "run", of_width(STUDENT + 8), change)


def test_widths_are_compared_side_by_side() -> None:
    check_widths(LossConfig(), 8, 9, 7)
    check_widths(LossConfig(teacher_texts=True), 8, 7, 7)
    check_widths(LossConfig(teacher_features=1.0), 7, 9, 7)
    with pytest.raises(ConfigError, match="have 9 dimensions and the student's 7"):
        check_widths(LossConfig(teacher_texts=True), 7, 9, 7)
    with pytest.raises(ConfigError, match="have 8 dimensions and the student's 7"):
        check_widths(LossConfig(teacher_features=1.0), 8, 7, 7)


@pytest.mark.parametrize("change", ["loss.teacher_texts=true", "loss.teacher_features=0.5"])
def test_what_a_teacher_gives_needs_a_teacher(change: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"need a teacher: name one in loss\.teacher"):
        train_core(memory.tiny(change, f"data.source={tmp_path}"), tmp_path / "run")
