"""Where weights come from: a file, a folder, a published name, or a Hugging Face repository (huggingface_hub).

The hub's own settings hold: its cache folder (HF_HOME), its offline mode (HF_HUB_OFFLINE) and its access token.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from midsight.configs import MODELS, ModelInfo, find_model
from midsight.errors import CheckpointError

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
CONFIGS = ("config.json", "open_clip_config.json")
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".json")
_ASSETS = Path(__file__).parent.parent / "assets"
EMBEDDED = _ASSETS / "embedded"  # the small model that comes with the package
EMBEDDED_SPATIAL = _ASSETS / "embedded_spatial"  # and its PE-Spatial
_PACKAGED = {"embedded": EMBEDDED, "embedded-spatial": EMBEDDED_SPATIAL}
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Source:
    """Where weights are, after any download."""

    path: Path  # a file or a folder on this machine
    name: str | None = None  # the published configuration, where the source names one
    repo_id: str | None = None
    revision: str | None = None  # as asked for; None is the repository's main branch


def resolve(source: str | Path, *, revision: str | None = None) -> Source:
    """The file or folder that a source means, downloaded if it must be.

    Args:
        source: an existing file or folder; a published name; "embedded" or "embedded-spatial", of the package;
            `organisation/repository`; `hf://repository:file`. Names and repositories may end in `@revision`.
        revision: branch, tag or commit; the same as `@revision`.

    Raises:
        CheckpointError: no such file; a repository or revision that does not exist; no network and not in the cache.
        UnknownModelError: neither a file nor a repository nor a published name; nearest names are suggested.
    """
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise CheckpointError(
            f"weights were asked for, but not which: got {source!r}, expected a file, a folder, a published name "
            "or a repository. Give checkpoint_path"
        )
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.exists():
        return Source(path, name=path.name.removesuffix(".pt") if path.name.removesuffix(".pt") in MODELS else None)
    if isinstance(source, os.PathLike) or _is_path(text):
        raise CheckpointError(f"{text}: there is no such file or folder (looked in {Path.cwd()})")
    if text in _PACKAGED:
        return Source(_PACKAGED[text])
    text, _, pinned = text.partition("@")
    revision = _one_revision(revision, pinned)
    if text.startswith("hf://"):
        return _from_address(text, revision)
    if REPO_ID.fullmatch(text):
        return _from_repository(text, revision)
    info = find_model(text)
    return Source(_download(info.repo_id, info.filename, revision), info.name, info.repo_id, revision)


def is_cached(name: str, *, revision: str | None = None) -> bool:
    """Whether the weights of a published model are on this machine; asks no network.

    Raises:
        UnknownModelError: no such name.
    """
    return cached_file(find_model(name), revision=revision) is not None


def cached_file(info: ModelInfo, *, revision: str | None = None) -> Path | None:
    """The published model's weight file in the Hugging Face cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(info.repo_id, info.filename, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _is_path(text: str) -> bool:
    if text.startswith("hf://") or "@" in text:
        return False
    return text.startswith((".", "/", "~")) or text.endswith(SUFFIXES) or text.count("/") > 1 or "\\" in text


def _one_revision(revision: str | None, pinned: str) -> str | None:
    if revision and pinned and revision != pinned:
        raise CheckpointError(f"two revisions were asked for, {pinned!r} and {revision!r}; give one")
    return revision or pinned or None


def _from_address(text: str, revision: str | None) -> Source:
    repo_id, _, filename = text.removeprefix("hf://").partition(":")
    if not REPO_ID.fullmatch(repo_id):
        raise CheckpointError(f"{text!r}: expected hf://organisation/repository or hf://organisation/repository:file")
    if not filename:
        return _from_repository(repo_id, revision)
    if filename.startswith("/") or ".." in filename.split("/"):
        raise CheckpointError(f"{text!r}: the file must be named from the top of the repository, without '..'")
    return Source(_download(repo_id, filename, revision), _published(repo_id), repo_id, revision)


def _from_repository(repo_id: str, revision: str | None) -> Source:
    name = _published(repo_id)
    if name is not None and MODELS[name].repo_id == repo_id:
        return Source(_download(repo_id, MODELS[name].filename, revision), name, repo_id, revision)
    folder = snapshot(repo_id, revision, (*CONFIGS, *WEIGHTS))
    if not any(folder.glob("*.safetensors")):
        folder = snapshot(repo_id, revision, (*CONFIGS, "*.pt"))
    return Source(folder, name, repo_id, revision)


def _published(repo_id: str) -> str | None:
    name = repo_id.partition("/")[2]
    return name if name in MODELS else None


def _download(repo_id: str, filename: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision))
    except Exception as error:  # network errors are those of whichever HTTP client the hub's version uses
        raise CheckpointError(_explain(f"{filename} of {repo_id}", revision, error)) from error


def snapshot(repo_id: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """The folder of a repository's files that match the patterns, downloaded if they must be."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # as in _download
        raise CheckpointError(_explain(f"the weights of {repo_id}", revision, error)) from error


def _explain(wanted: str, revision: str | None, error: Exception) -> str:
    """What was wanted, why it is not here, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = f"{wanted} (revision {revision})" if revision else wanted
    cache = constants.HF_HUB_CACHE
    if constants.HF_HUB_OFFLINE:
        return (
            f"{wanted} is not in the cache {cache}, and HF_HUB_OFFLINE forbids the download. "
            "Unset it, or give the path of a file that you have as checkpoint_path"
        )
    if isinstance(error, GatedRepoError):
        return (
            f"{wanted}: its owner asks for an agreement first. Accept it on the repository's page, then `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{wanted}: the repository has no such revision. Give a branch, a tag or a full commit"
    if isinstance(error, RepositoryNotFoundError):
        return f"{wanted}: no such repository, or it is private. Check its name, or `hf auth login`"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{wanted}: the repository has no such file. Name one with hf://repository:file"
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return (
        f"{wanted} is not in the cache {cache}, and the download failed ({reason}). "
        "Check the network, or give the path of a file that you have as checkpoint_path"
    )
