"""Sources: files, names, repositories; the hub's own cache layout, offline, and a network that is not there."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError

from midsight import checkpoints
from midsight.checkpoints.writer import write_sharded
from midsight.configs import MODELS
from midsight.errors import CheckpointError, UnknownModelError
from tests.checkpoints import tiny

COMMITS = ("a" * 40, "b" * 40)


def put(cache: Path, repo_id: str, commit: str, refs: tuple[str, ...] = ()) -> Path:
    """A repository's snapshot folder in the cache, as huggingface_hub lays it out."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    for ref in refs:
        (repository / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, offline."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def published(cache: Path) -> Path:
    """PE-Core-T16-384 in the cache in two revisions, "main" and "v1", whose weights differ."""
    for commit, ref, seed in ((COMMITS[0], "main", 0), (COMMITS[1], "v1", 1)):
        snapshot = put(cache, "facebook/PE-Core-T16-384", commit, (ref,))
        checkpoints.write_torch(snapshot / "PE-Core-T16-384.pt", tiny.pair(seed))
    return cache


@pytest.mark.parametrize(
    "source",
    [
        "PE-Core-T16-384",
        "facebook/PE-Core-T16-384",
        "hf://facebook/PE-Core-T16-384",
        "hf://facebook/PE-Core-T16-384:PE-Core-T16-384.pt",
    ],
)
def test_ways_to_name_a_published_model(source: str, published: Path) -> None:
    found = checkpoints.resolve(source)
    assert (found.name, found.repo_id, found.revision) == ("PE-Core-T16-384", "facebook/PE-Core-T16-384", None)
    assert tiny.same(checkpoints.read_state_dict(source), tiny.pair(0))
    for pinned in ("v1", COMMITS[1]):
        assert tiny.same(checkpoints.read_state_dict(source, revision=pinned), tiny.pair(1))
        if ":PE" not in source:
            assert tiny.same(checkpoints.read_state_dict(f"{source}@{pinned}"), tiny.pair(1))
            assert checkpoints.resolve(f"{source}@{pinned}").revision == pinned
    with pytest.raises(CheckpointError, match="revision v2"):
        checkpoints.resolve(source, revision="v2")


def test_a_name_in_the_cache(published: Path) -> None:
    assert checkpoints.is_cached("PE-Core-T16-384")
    assert checkpoints.is_cached("PE-Core-T16-384", revision="v1")
    assert not checkpoints.is_cached("PE-Core-T16-384", revision="v2")
    assert not checkpoints.is_cached("PE-Core-L14-336")
    file = checkpoints.cached_file(MODELS["PE-Core-T16-384"])
    assert file is not None
    assert file.is_relative_to(published)
    with pytest.raises(UnknownModelError):
        checkpoints.is_cached("PE-Core-T16-385")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_repository_with_safetensors(sharded: bool, cache: Path) -> None:
    snapshot = put(cache, "someone/their-model", COMMITS[0], ("main",))
    write_sharded(snapshot, tiny.pair(), max_shard_size="1MB" if sharded else "1GB")
    assert tiny.same(checkpoints.read_state_dict("someone/their-model"), tiny.pair())
    assert checkpoints.resolve("someone/their-model").path == snapshot


def test_a_repository_with_a_torch_file_only(cache: Path) -> None:
    checkpoints.write_torch(put(cache, "someone/theirs", COMMITS[0], ("main",)) / "weights.pt", tiny.pair())
    assert tiny.same(checkpoints.read_state_dict("someone/theirs"), tiny.pair())


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("PE-Core-L14-336", "PE-Core-L14-336.pt of facebook/PE-Core-L14-336 is not in the cache"),
        ("someone/nothing", "the weights of someone/nothing is not in the cache"),
        ("hf://someone/nothing:a.safetensors", "a.safetensors of someone/nothing is not in the cache"),
    ],
)
def test_offline_and_not_in_the_cache(source: str, wanted: str, cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoints.read_state_dict(source)
    assert str(caught.value).startswith(f"{wanted} {cache}, and HF_HUB_OFFLINE forbids the download")
    assert "checkpoint_path" in str(caught.value)


def test_no_network(tmp_path: Path) -> None:
    """A whole process whose hub address nobody answers: one error, no traceback of an HTTP client in the message."""
    script = (
        "import time\n"
        "time.sleep = lambda seconds: None  # the hub's pauses between its attempts\n"
        "from midsight import checkpoints, errors\n"
        "for source in ('PE-Core-L14-336', 'someone/nothing'):\n"
        "    try:\n"
        "        checkpoints.read_state_dict(source)\n"
        "    except errors.CheckpointError as error:\n"
        "        print(error)\n"
    )
    settings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | settings,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2
    assert lines[0].startswith("PE-Core-L14-336.pt of facebook/PE-Core-L14-336 is not in the cache")
    assert all("Check the network, or give the path" in line for line in lines)


def test_a_repository_that_does_not_exist(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Response:
        headers: dict[str, str] = {}  # noqa: RUF012
        request = None
        status_code = 404

    def download(*args: object, **kwargs: object) -> None:
        raise RepositoryNotFoundError("404", response=Response())  # type: ignore[arg-type]

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match="no such repository, or it is private"):
        checkpoints.resolve("someone/nothing")


def test_files_and_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PE-Core-T16-384").mkdir()
    (tmp_path / "facebook").mkdir()
    checkpoints.write_torch("facebook/PE-Core-T16-384", tiny.weights())
    for name in ("PE-Core-T16-384", "facebook/PE-Core-T16-384"):
        assert checkpoints.resolve(name).path == Path(name)
        assert checkpoints.resolve(name).repo_id is None
    checkpoints.write_torch("with@sign.pt", tiny.weights())
    assert checkpoints.resolve("with@sign.pt").path == Path("with@sign.pt")


@pytest.mark.parametrize(
    "source", ["./a", "/a/b", "a/b/c.pt", "a.safetensors", "~/nothing", "a\\b", Path("PE-Core-T16-384")]
)
def test_what_looks_like_a_path_is_not_looked_up_elsewhere(source: str | Path, cache: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file or folder"):
        checkpoints.resolve(source)


@pytest.mark.parametrize("source", ["", None, 3, MODELS["PE-Core-T16-384"].vision])
def test_what_is_no_source(source: object) -> None:
    with pytest.raises(CheckpointError, match="not which"):
        checkpoints.resolve(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["hf://x", "hf://a/b:../c.pt", "hf://a/b:/c.pt", "hf://a b/c:d.pt"])
def test_addresses_that_cannot_be(source: str, cache: Path) -> None:
    with pytest.raises(CheckpointError, match="expected hf://|without '..'"):
        checkpoints.resolve(source)


def test_two_revisions(cache: Path) -> None:
    with pytest.raises(CheckpointError, match="two revisions were asked for, 'v1' and 'v2'"):
        checkpoints.resolve("PE-Core-T16-384@v1", revision="v2")


def test_no_warnings(published: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.read_state_dict("PE-Core-T16-384")
