"""A PLM as captioner: beside its own answers to the same questions, and through the whole engine."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midsight.api.captioning import CaptionConfig, PLMCaptioner, open_captioner
from midsight.cli.main import app
from midsight.data import engine
from midsight.data.datasets import open_dataset
from midsight.data.samples import Sample
from midsight.errors import ConfigError, InputError
from midsight.plm import PLM
from midsight.plm.answer import AnswerConfig, Answerer
from midsight.video import sample_frames
from tests.data import small_sets
from tests.plm import tiny

MEDIA = Path(__file__).parents[1] / "media"
CLIP = Path(__file__).parents[2] / "midsight" / "assets" / "demo" / "temple.mp4"
SAMPLE = Sample("a", CLIP, "", "video")
CONFIG = CaptionConfig("What is here?", "What happens?", max_new_tokens=12, frames_at_once=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    return tiny.plm(tmp_path_factory.mktemp("tokenizer"), seed=2)


def test_each_frame_and_the_clip_are_asked_about(model: PLM) -> None:
    captioner = PLMCaptioner(model, "tiny", CONFIG)
    clip = sample_frames(CLIP, 3)
    alone = Answerer(model, AnswerConfig(max_new_tokens=12))
    found = captioner.frames(SAMPLE, clip)
    assert found == [captioner.frames(SAMPLE, replace(clip, frames=clip.frames[n : n + 1]))[0] for n in range(3)]
    assert len(set(found)) > 1, "else frames could not be told apart"
    assert captioner.clip(SAMPLE, clip) == alone.answer("What happens?", list(clip.frames)).text.strip()
    assert captioner.clip(SAMPLE, clip) not in found


def test_a_clip_of_many_frames_is_thinned_as_the_model_reads_videos(model: PLM) -> None:
    assert model.config.max_frames == 4
    captioner = PLMCaptioner(model, "tiny", CONFIG)
    clip = sample_frames(CLIP, 10)
    found = captioner.clip(SAMPLE, clip)
    assert found == captioner.clip(SAMPLE, replace(clip, frames=clip.frames[[0, 3, 6, 9]]))
    assert found != captioner.clip(SAMPLE, replace(clip, frames=clip.frames[:4]))


def test_the_name_follows_weights_and_prompts(model: PLM, tmp_path: Path) -> None:
    names = {
        PLMCaptioner(model, "tiny", CONFIG).name, PLMCaptioner(model, "tiny", CONFIG).name,
        PLMCaptioner(model, "tiny", replace(CONFIG, clip_prompt="What now?")).name,
        PLMCaptioner(tiny.plm(tmp_path, seed=3), "tiny", CONFIG).name,
    }  # fmt: skip
    assert len(names) == 3


def test_a_model_that_cannot_see_and_wrong_settings(model: PLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "config", replace(model.config, vision=None))
    with pytest.raises(InputError, match="blind: is a language model alone"):
        PLMCaptioner(model, "blind")
    with pytest.raises(InputError, match="plm:FOLDER"):
        open_captioner("")
    with pytest.raises(ConfigError, match="at least 1"):
        CaptionConfig(frames_at_once=0)


def test_the_whole_engine_with_a_folder(tmp_path: Path) -> None:
    tiny.saved(tmp_path / "plm", seed=2)
    videos = {
        "v0": {"mp4": CLIP.read_bytes()},
        "v1": {"mp4": (MEDIA / "b_frames.mp4").read_bytes()},
        "bad": {"mp4": b""},
    }
    small_sets.write_shard(tmp_path / "in.tar", videos)
    options = [
        "--out",
        str(tmp_path / "out"),
        "--captioner",
        f"plm:{tmp_path / 'plm'}",
        "--frames",
        "2",
        "--device",
        "cpu",
    ]
    for _ in range(2):  # the second time there is nothing to ask
        done = CliRunner().invoke(app, ["data", "caption", str(tmp_path / "in.tar"), *options])
        assert done.exit_code == 1, "one video is broken"
        assert "2 clips" in done.stderr
    lines = (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
    assert len(lines) == 3
    records = {s.facts["video_id"][-2:]: s.facts for s in open_dataset(tmp_path / "out").samples(epochs=1)}
    captioner = open_captioner(str(tmp_path / "plm"), "cpu")
    clip = sample_frames(CLIP, 2)
    assert records["v0"]["frame_captions"] == [engine.plain_caption(text) for text in captioner.frames(SAMPLE, clip)]
    assert records["v0"]["clip_caption"] == engine.plain_caption(captioner.clip(SAMPLE, clip))
    assert all(record["model_caption"] for record in records.values())
    tiny.saved(tmp_path / "other", seed=3)
    options[3] = f"plm:{tmp_path / 'other'}"
    done = CliRunner().invoke(app, ["data", "caption", str(tmp_path / "in.tar"), *options])
    assert done.exit_code == 1
    assert "captioner differ" in done.stderr


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    small_sets.write_shard(tmp_path / "in.tar", {"v0": {"mp4": CLIP.read_bytes()}})
    for name, message in (("plm:", "plm:FOLDER"), (f"plm:{tmp_path}", str(tmp_path.name))):
        args = ["data", "caption", str(tmp_path / "in.tar"), "--out", str(tmp_path / "out"), "--captioner", name]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 2
        assert message in done.stderr
