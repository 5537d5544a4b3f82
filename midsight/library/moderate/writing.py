"""Thresholds written into the text of a policy: all else, comments and order, stays as a person wrote it."""

import itertools
import re
from pathlib import Path

import yaml

from midsight.errors import OutputError
from midsight.files import atomic_write
from midsight.library.moderate.policy import Policy
from midsight.library.moderate.reading import compose, parse_policy


def with_thresholds(text: str, policy: Policy, name: str, folder: Path) -> str:
    """The text with the thresholds, review bands and calibration of `policy`.

    Args:
        text: of a policy with the same categories.
        name: of the file, for messages.
        folder: what its examples are relative to.

    Raises:
        OutputError: the text is laid out in a way that cannot be edited.
    """
    for category in policy.categories:
        for key, value in (("threshold", category.threshold), ("review", category.review)):
            if value is None:
                text = _without(text, name, ("categories", category.name), key)
            else:
                text = _with(text, name, ("categories", category.name), key, repr(value))
    if policy.calibration is not None:
        about = policy.calibration
        told = f"{{model: {_quoted(about.model)}, identity: {_quoted(about.identity)}, files: {about.files}}}"
        text = _with(text, name, (), "calibration", told)
    if parse_policy(text, name, folder) != policy:
        raise OutputError(
            f"{name}: the thresholds could not be written into it. Give every category a block of its own lines."
        )
    return text


def write_policy(text: str, path: Path) -> Path | None:
    """Writes the text; what was at `path` is kept beside it.

    Returns:
        Where the old policy is, or None where there was none.

    Raises:
        OutputError: it could not be written.
    """
    kept = _free_name(path) if path.exists() else None
    if kept is not None:
        with atomic_write(kept) as file:
            file.write(path.read_bytes())
    with atomic_write(path) as file:
        file.write(text.encode())
    return kept


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.old{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def _with(text: str, name: str, where: tuple[str, ...], key: str, value: str) -> str:
    """The text with one key of a mapping set."""
    node = _mapping(text, name, where)
    for key_node, value_node in node.value:
        if key_node.value == key:
            return text[: value_node.start_mark.index] + value + text[_end(text, value_node) :]
    if node.flow_style:
        start = node.start_mark.index + 1  # behind the brace
        return f"{text[:start]}{key}: {value}{', ' if node.value else ''}{text[start:]}"
    start, indent = node.start_mark.index, " " * node.start_mark.column
    return f"{text[:start]}{key}: {value}\n{indent}{text[start:]}"


def _without(text: str, name: str, where: tuple[str, ...], key: str) -> str:
    """The text without one key of a mapping."""
    for key_node, value_node in _mapping(text, name, where).value:
        if key_node.value == key:
            start, end = key_node.start_mark.index, _end(text, value_node)
            behind = re.match(r"[^\S\n]*(#[^\n]*)?\n *| *, *", text[end:])
            before = text[:start] if behind else re.sub(r",\s*$", "", text[:start])
            return before + text[end + (behind.end() if behind else 0) :]
    return text


def _end(text: str, node: yaml.Node) -> int:
    """Where a value ends; a block's end mark lies behind the blank lines and comments that follow it."""
    end: int = node.end_mark.index
    return len(text[:end].rstrip()) if isinstance(node, yaml.CollectionNode) and not node.flow_style else end


def _mapping(text: str, name: str, where: tuple[str, ...]) -> yaml.MappingNode:
    node: yaml.Node = compose(text, name)
    for wanted in where:
        node = next(value for key, value in node.value if key.value.strip() == wanted)
    assert isinstance(node, yaml.MappingNode)
    return node


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
