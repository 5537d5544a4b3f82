"""Tar shards: the published video layout, what is left out and why, hostile members."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from midsight.data.datasets import open_dataset
from midsight.data.samples import Sample
from tests.data.small_sets import picture, write_shard

CLIP = Path(__file__).parents[1] / "media" / "one_frame.mp4"


def read(path: Path) -> tuple[list[Sample], dict[str, int]]:
    stream = open_dataset(path).samples(epochs=1)
    return list(stream), dict(stream.skipped)


def raw_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_the_published_video_layout_reads_as_it_is(tmp_path: Path) -> None:
    record = {"video_id": "v1", "human_caption": None, "model_caption": "A hand  turns\na key.", "num_frames": 1}
    better = {"human_caption": "A key.", "model_caption": "Something else."}
    samples = {
        "v1": {"mp4": CLIP.read_bytes(), "json": json.dumps(record).encode()},
        "v2": {"json": json.dumps(better).encode(), "mp4": CLIP.read_bytes()},
    }
    found, skipped = read(write_shard(tmp_path / "train-0.tar", samples))
    by_key = {sample.key: sample for sample in found}
    assert not skipped
    assert {s.kind for s in found} == {"video"}
    assert by_key["train-0.tar:v1"].caption == "A hand turns a key."
    assert by_key["train-0.tar:v1"].facts["video_id"] == "v1"
    assert by_key["train-0.tar:v2"].caption == "A key."
    assert by_key["train-0.tar:v2"].media == CLIP.read_bytes()
    chosen = list(open_dataset(tmp_path, caption_fields=["model_caption"]).samples(epochs=1))
    assert {s.caption for s in chosen} == {"A hand turns a key.", "Something else."}


def test_shards_of_the_webdataset_library_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for k in range(3):
            writer.write({"__key__": f"some/place/{k}", "png": picture(k), "seg.png": picture(9), "txt": f"words {k}"})
    found, skipped = read(tmp_path / "w.tar")
    assert not skipped
    assert {s.caption: s.media for s in found} == {f"words {k}": picture(k) for k in range(3)}


def test_what_is_wrong_is_counted_by_reason(tmp_path: Path) -> None:
    shard = {
        "good": {"png": picture(), "txt": b"words"},
        "no_words": {"png": picture()},
        "blank": {"png": picture(), "txt": b" \n"},
        "null": {"png": picture(), "json": b'{"caption": null}'},
        "list": {"png": picture(), "json": b"[1]"},
        "not_json": {"png": picture(), "json": b"{"},
        "latin": {"png": picture(), "txt": b"caf\xe9"},
        "no_media": {"txt": b"words", "npz": b""},
    }
    folder = tmp_path / "data"
    folder.mkdir()
    write_shard(folder / "a.tar", shard)
    write_shard(folder / "empty.tar", {})
    (folder / "zero.tar").write_bytes(b"")
    (folder / "packed.tar").write_bytes(gzip.compress((folder / "a.tar").read_bytes()))
    found, skipped = read(folder)
    assert [s.key for s in found] == ["a.tar:good"]
    assert skipped == {
        "missing caption": 3, "broken record": 2, "not UTF-8": 1, "neither picture nor video": 1,
        "empty shard": 2, "cut shard": 1,
    }  # fmt: skip


def test_members_that_lead_out_of_the_shard_and_links_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("d.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("e.png")
    hard.type, hard.linkname = tarfile.LNKTYPE, "../secret"
    names = ("../a.png", "/b.png", "x/../../c.png", "C:/f.png", "..\\g.png")
    good = [(tarfile.TarInfo("ok.png"), picture()), (tarfile.TarInfo("ok.txt"), b"words")]
    bad = [(tarfile.TarInfo(name), picture()) for name in names]
    found, skipped = read(raw_tar(tmp_path / "s.tar", *good, *bad, (link, b""), (hard, b"")))
    assert [s.key for s in found] == ["s.tar:ok"]
    assert skipped == {"unsafe name": 5, "not a regular file": 2}


def test_a_cut_shard_gives_what_is_whole(tmp_path: Path) -> None:
    samples = {f"{k}": {"png": picture(k), "txt": b"words"} for k in range(4)}
    whole = write_shard(tmp_path / "s.tar", samples).read_bytes()
    for length in (100, 512, 600, 2048, 2600, 5000, 6800):
        (tmp_path / "s.tar").write_bytes(whole[:length])
        stream = open_dataset(tmp_path / "s.tar").samples(epochs=1)
        try:
            found = list(stream)
        except ValueError:  # nothing whole is left
            found = []
        assert len(found) == (length // 512) // 4 or len(found) == ((length // 512) + 1) // 4, length
        assert sum(stream.skipped.values()) >= 1, length


def test_members_of_one_sample_that_are_not_together_are_two_samples(tmp_path: Path) -> None:
    members = [("a.png", picture()), ("b.png", picture()), ("a.txt", b"words"), ("b.txt", b"words")]
    with pytest.raises(ValueError, match="missing caption"):
        read(raw_tar(tmp_path / "s.tar", *((tarfile.TarInfo(n), c) for n, c in members)))


def test_names_with_dots_folders_and_long_paths(tmp_path: Path) -> None:
    long = "x" * 150 + "/" + "y" * 150
    names = ("v1.0/a", long, "./b")
    members = [(f"{n}.{s}", c) for n in names for s, c in (("PNG", picture()), ("txt", b"words"))]
    found, skipped = read(raw_tar(tmp_path / "s.tar", *((tarfile.TarInfo(n), c) for n, c in members)))
    assert not skipped
    assert {s.key for s in found} == {f"s.tar:{n}" for n in ("v1.0/a", long, "./b")}
