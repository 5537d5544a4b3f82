"""Captioning clips: any captioner, merging, people's edits, stops."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from midsight.data import engine
from midsight.data.datasets import Dataset, open_dataset
from midsight.data.samples import Sample
from midsight.errors import ConfigError, InputError, OutputError
from midsight.video import Clip
from tests.data import small_sets

MP4 = (Path(__file__).parents[1] / "media" / "b_frames.mp4").read_bytes()


@dataclass
class Counting:
    """Says how many frames it saw; notes whom it was asked about."""

    name: str = "counting 1"
    stop_at: int = -1
    asked: list[str] = field(default_factory=list)

    def frames(self, sample: Sample, clip: Clip) -> Sequence[str]:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(sample.key)
        return [f"picture {k} of {sample.key[-1]}" for k in range(len(clip.frames))]

    def clip(self, sample: Sample, clip: Clip) -> str:
        return f"Clip {sample.key[-1]} with {len(clip.frames)} frames"


def clips(tmp_path: Path, count: int = 3) -> Dataset:
    """Videos without captions; one has a title, one is broken."""
    samples = {f"v{k}": {"mp4": MP4, "json": json.dumps({"tag": k}).encode()} for k in range(count)}
    samples["v0"]["json"] = json.dumps({"title": "A day out", "caption": "old words"}).encode()
    samples["bad"] = {"mp4": b"no video"}
    small_sets.write_shard(tmp_path / "in.tar", samples)
    return open_dataset(tmp_path / "in.tar", needs_captions=False)


def captions(folder: Path) -> dict[str, str]:
    return {s.facts["video_id"][-2:]: s.caption for s in open_dataset(folder).samples(epochs=1)}


def test_from_videos_to_captioned_shards(tmp_path: Path) -> None:
    dataset, journal = clips(tmp_path), tmp_path / "j.jsonl"
    skipped, examples = engine.caption_clips(dataset, Counting(), journal, num_frames=2)
    assert skipped == {"unreadable video": 1}
    assert "bad" in examples["unreadable video"]
    made = engine.write_captioned(dataset, journal, tmp_path / "out", per_shard=2)
    assert (made.samples, len(made.shards), made.edited, made.removed) == (3, 2, 0, 0)
    assert captions(tmp_path / "out")["v0"] == "A day out. Clip 0 with 2 frames. picture 0 of 0. picture 1 of 0."
    sample = next(iter(open_dataset(made.shards[1]).samples(epochs=1)))
    assert sample.media == MP4
    assert sample.facts["frame_captions"] == ["picture 0 of 2", "picture 1 of 2"]
    assert sample.facts["num_frames"] > 2
    assert sample.facts["video_duration_in_s"] > 0
    assert sample.facts["tag"] == 2


def test_people_correct_and_remove_without_asking_again(tmp_path: Path) -> None:
    dataset, journal, out = clips(tmp_path), tmp_path / "j.jsonl", tmp_path / "out"
    captioner = Counting()
    engine.caption_clips(dataset, captioner, journal, num_frames=2)
    engine.write_captioned(dataset, journal, out, per_shard=1)
    edits = [
        {"key": "in.tar:v1", "caption": "What  really happens."}, {"key": "in.tar:v0", "remove": True},
        {"key": "in.tar:v7", "caption": "Nobody."},
    ]  # fmt: skip
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, edits)))
    engine.caption_clips(dataset, captioner, journal, num_frames=2)
    made = engine.write_captioned(dataset, journal, out, per_shard=1, edits=tmp_path / "edits.jsonl")
    assert len(captioner.asked) == 3
    assert (made.samples, made.edited, made.removed, made.unused_edits) == (2, 1, 1, ("in.tar:v7",))
    found = captions(out)  # also: the third shard of the first run is gone
    assert sorted(found) == ["v1", "v2"]
    assert found["v1"] == "What really happens."


def test_a_stopped_run_asks_about_the_rest_only(tmp_path: Path) -> None:
    dataset, journal = clips(tmp_path), tmp_path / "j.jsonl"
    with pytest.raises(KeyboardInterrupt):
        engine.caption_clips(dataset, Counting(stop_at=2), journal, num_frames=2)
    again = Counting()
    engine.caption_clips(dataset, again, journal, num_frames=2)
    assert again.asked == ["in.tar:v2"]
    with pytest.raises(OutputError, match="captioner differ"):
        engine.caption_clips(dataset, Counting("other"), journal, num_frames=2)


def test_a_journal_of_other_data_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    engine.caption_clips(clips(tmp_path), Counting(), journal, num_frames=2)
    with pytest.raises(OutputError, match="as it is now"):
        engine.write_captioned(clips(tmp_path, 2), journal, tmp_path / "out")


def test_a_captioner_that_fails_on_one_clip_leaves_it_out(tmp_path: Path) -> None:
    class Shy(Counting):
        def clip(self, sample: Sample, clip: Clip) -> str:
            if sample.key.endswith("1"):
                raise InputError("cannot say")
            return super().clip(sample, clip)

    dataset, journal = clips(tmp_path), tmp_path / "j.jsonl"
    skipped, examples = engine.caption_clips(dataset, Shy(), journal, num_frames=2)
    assert skipped == {"unreadable video": 1, "no caption": 1}
    assert examples["no caption"] == "cannot say"
    assert engine.write_captioned(dataset, journal, tmp_path / "out").samples == 2


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        '{"key": "a"}',
        '{"key": "a", "caption": "x", "remove": true}',
        '{"key": 3, "remove": true}',
        '{"a": 1}',
    ],
)
def test_edits_that_are_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "e.jsonl").write_text('{"key": "b", "remove": true}\n\n' + line + "\n")
    with pytest.raises(InputError, match="line 3 is no edit"):
        engine.read_edits(tmp_path / "e.jsonl")
    (tmp_path / "e.jsonl").write_text('{"key": "b", "remove": true}\n{"key": "b", "caption": "x"}\n')
    with pytest.raises(InputError, match="second edit"):
        engine.read_edits(tmp_path / "e.jsonl")


def test_rendered_clips_tell_their_own_truth(tmp_path: Path) -> None:
    record = {"captions": ["a red chair", "a red chair; the camera moves left", "A red chair. The camera moves left."]}
    samples = {"s0": {"mp4": MP4, "json": json.dumps(record).encode()}, "s1": {"mp4": MP4}}
    small_sets.write_shard(tmp_path / "in.tar", samples)
    dataset = open_dataset(tmp_path / "in.tar", needs_captions=False)
    skipped, _ = engine.caption_clips(dataset, engine.find_captioner("scenes"), tmp_path / "j", num_frames=2)
    assert skipped == {"no caption": 1}
    engine.write_captioned(dataset, tmp_path / "j", tmp_path / "out")
    assert captions(tmp_path / "out") == {"s0": "A red chair. The camera moves left."}


def test_captioners_by_name(tmp_path: Path) -> None:
    assert engine.find_captioner("midsight.data.engine:SceneTruth").name == "scene truth"
    for name in ("nothing", "midsight.data.engine:Nobody", "no.such.module:X", ""):
        with pytest.raises(InputError, match="no such captioner"):
            engine.find_captioner(name)
    with pytest.raises(ConfigError, match="num_frames"):
        engine.caption_clips(clips(tmp_path), Counting(), tmp_path / "j", num_frames=1)
