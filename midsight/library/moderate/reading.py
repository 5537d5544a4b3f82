"""A policy from YAML, read by a safe loader; whatever is wrong is told with the file's name and the line.

The keys are those of `Policy` and `Category`, and `version`. No tags, no aliases, no merging: a policy is plain data.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from midsight.errors import ConfigError, InputError, MidsightError
from midsight.files import safe_join
from midsight.library.moderate.policy import VERSION, Calibration, Category, Policy
from midsight.tasks.zero_shot import resolve_templates

T = TypeVar("T")

MOST_BYTES = 1 << 20
_DEEPEST = 20  # brackets within brackets; the schema needs 4
_OF_POLICY = ("version", *(field.name for field in fields(Policy)))
_OF_CATEGORY = tuple(field.name for field in fields(Category) if field.name != "name")
_NO_FIELDS: Mapping[str, yaml.Node] = {}
_OF_CALIBRATION = tuple(field.name for field in fields(Calibration))


def read_policy(path: Path) -> Policy:
    """The policy in a file; examples are relative to its folder.

    Raises:
        ConfigError: not a policy; the message names the file, the line and the reason.
    """
    return parse_policy(read_text(path), str(path), path.resolve().parent)


def read_text(path: Path) -> str:
    """The text of a policy file.

    Raises:
        ConfigError: it cannot be read, is no UTF-8 text, or is larger than any policy.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); expected a policy in YAML") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: is larger than {MOST_BYTES >> 20} MiB; expected a policy in YAML")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: is not UTF-8 text; save the policy as UTF-8") from None


def parse_policy(text: str, name: str = "policy", folder: Path | None = None) -> Policy:
    """The policy in a text.

    Args:
        name: of the file, for messages.
        folder: what examples are relative to. They may not lead out of it, but may be absolute. None refuses examples:
            a text that comes from elsewhere must not have files opened.

    Raises:
        ConfigError: not a policy; the message names the line and the reason.
    """
    return _Reader(name, folder).policy(compose(text, name))


def compose(text: str, name: str) -> yaml.MappingNode:
    """The text as nodes, which know their lines.

    Raises:
        ConfigError: not YAML, with aliases, nested too deeply, or no mapping.
    """
    try:
        _check_plain(text, name)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise ConfigError(f"{name}: {line}not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}: line {line_number}: a character that YAML does not allow") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{name}: line 1: expected a policy with `categories:`; `midsight moderate example` shows one"
        )
    return root


def _check_plain(text: str, name: str) -> None:
    """Aliases can make a small text endless, and deep nesting exhausts the stack: neither belongs in a policy."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{name}: line {line}: aliases (*{event.anchor}) are not allowed; write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ConfigError(f"{name}: line {line}: nested more than {_DEEPEST} deep; no part of a policy is")


class _Reader:
    """Nodes to the policy's dataclasses."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self._name, self._folder = name, folder

    def policy(self, root: yaml.MappingNode) -> Policy:
        found = self._fields(root, _OF_POLICY, "the policy")
        if "version" in found and self._whole(found.pop("version"), "version") != VERSION:
            raise self._error(root, f"expected version {VERSION}; this is a policy of another version of midsight")
        if "categories" not in found:
            raise self._error(root, "the policy has no `categories`")
        read: dict[str, Callable[[yaml.Node, str], Any]] = {
            "categories": self._categories, "neutral": self._texts, "templates": self._templates,
            "segment_seconds": self._number, "frames": self._whole, "calibration": self._calibration,
        }  # fmt: skip
        values = {key: read[key](node, key) for key, node in found.items()}
        return self._made(root, lambda: Policy(**values), found)

    def _categories(self, node: yaml.Node, what: str) -> tuple[Category, ...]:
        return tuple(self._category(name, inner) for name, inner in self._fields(node, None, what).items())

    def _category(self, name: str, node: yaml.Node) -> Category:
        what = f"category {name!r}"
        found = self._fields(node, _OF_CATEGORY, what)
        read: dict[str, Callable[[yaml.Node, str], Any]] = {
            "prompts": self._texts, "negatives": self._texts, "examples": self._examples,
            "threshold": self._number, "review": self._number,
        }  # fmt: skip
        values = {key: read[key](inner, f"{what}: {key}") for key, inner in found.items()}
        return self._made(node, lambda: Category(name, **values), found)

    def _calibration(self, node: yaml.Node, what: str) -> Calibration:
        found = self._fields(node, _OF_CALIBRATION, what)
        for key in _OF_CALIBRATION:
            if key not in found:
                raise self._error(
                    node, f"{what} has no `{key}`; remove all of it, or run `midsight moderate calibrate`"
                )
        model, identity = (self._text(found[key], f"{what}: {key}") for key in ("model", "identity"))
        return Calibration(model, identity, self._whole(found["files"], f"{what}: files"))

    def _templates(self, node: yaml.Node, what: str) -> str | tuple[str, ...]:
        found = self._text(node, what) if isinstance(node, yaml.ScalarNode) else self._texts(node, what)
        self._made(node, lambda: resolve_templates(found))
        return found

    def _examples(self, node: yaml.Node, what: str) -> tuple[Path, ...]:
        return tuple(self._file(inner, self._text(inner, what)) for inner in self._items(node, what))

    def _file(self, node: yaml.Node, text: str) -> Path:
        folder = self._folder
        if folder is None:
            raise self._error(node, f"example {text!r}: a policy that is not in a file can have no example pictures")
        path = Path(text) if Path(text).is_absolute() else self._made(node, lambda: safe_join(folder, text))
        if not path.is_file():
            raise self._error(node, f"example {text!r}: there is no such file ({path})")
        return path

    def _texts(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        texts = tuple(self._text(inner, what) for inner in self._items(node, what))
        repeated = [text for text in texts if texts.count(text) > 1]
        if repeated:
            raise self._error(node, f"{what} holds {repeated[0]!r} more than once")
        return texts

    def _items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, f"{what} must be a list, got {_shown(node)}; write each entry behind a dash")
        items: list[yaml.Node] = node.value
        return items

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            quote = "; write it in quotes if it is meant as a text" if isinstance(node, yaml.ScalarNode) else ""
            raise self._error(node, f"{what}: expected a text, got {_shown(node)}{quote}")
        if not node.value.strip():
            raise self._error(node, f"{what}: a text is empty")
        return str(node.value).strip()

    def _number(self, node: yaml.Node, what: str) -> float:
        try:
            return float(_plain(node))
        except ValueError:
            raise self._error(node, f"{what}: expected a number, got {_shown(node)}") from None

    def _whole(self, node: yaml.Node, what: str) -> int:
        try:
            return int(_plain(node))
        except ValueError:
            raise self._error(node, f"{what}: expected a whole number, got {_shown(node)}") from None

    def _fields(self, node: yaml.Node, known: Collection[str] | None, what: str) -> dict[str, yaml.Node]:
        """The values of a mapping by their keys; `known` are those that there may be, None for any."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{what}: expected keys with values, got {_shown(node)}")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self._text(key_node, f"a key of {what}")
            if known is not None and key not in known:
                nearest = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean `{nearest[0]}`?" if nearest else f"there are {', '.join(known)}"
                raise self._error(key_node, f"{what} has no key `{key}`; {hint}")
            if key in found:
                raise self._error(key_node, f"{what} has the key `{key}` more than once")
            found[key] = value
        return found

    def _made(self, node: yaml.Node, make: Callable[[], T], fields: Mapping[str, yaml.Node] = _NO_FIELDS) -> T:
        """What `make` makes; an error gets the line of the field that it names first, or of the node."""
        try:
            return make()
        except (ConfigError, InputError) as error:
            named = [(str(error).find(key), key) for key in fields if key in str(error)]
            raise self._error(fields[min(named)[1]] if named else node, str(error)) from None

    def _error(self, node: yaml.Node, reason: str) -> MidsightError:
        return ConfigError(f"{self._name}: line {node.start_mark.line + 1}: {reason}")


def _plain(node: yaml.Node) -> str:
    """The text of a scalar without quotes.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        raise ValueError
    return str(node.value)


def _shown(node: yaml.Node) -> str:
    """What stands in the file, for a message."""
    if isinstance(node, yaml.MappingNode):
        return "keys with values"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{node.value:.40}" if node.value else "nothing"
