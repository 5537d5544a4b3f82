"""A policy's text to its dataclasses; whatever is wrong is told with file, line and reason."""

import re
from importlib import resources
from pathlib import Path

import pytest

from midsight.errors import ConfigError
from midsight.library.moderate import Calibration, Category, Policy, parse_policy, read_policy

WHOLE = """\
version: 1
neutral: [a room, "no"]
templates: photo
segment_seconds: 2.5
frames: 3
calibration: {model: m, identity: abc, files: 50}
categories:
  weapons:
    prompts:
      - a gun
      -  a rifle
    negatives: [a toy]
    examples: [more/gun.png]
    threshold: 0.75
    review: 5e-1
  "2024":
    prompts: [a calendar]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "gun.png").write_bytes(b"a picture, for all that reading knows")
    return tmp_path


def test_every_key(folder: Path) -> None:
    (folder / "policy.yaml").write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    found = read_policy(folder / "policy.yaml")
    weapons = Category(
        "weapons", ("a gun", "a rifle"), ("a toy",), ((folder / "more" / "gun.png").resolve(),), 0.75, 0.5
    )
    assert found == Policy(
        (weapons, Category("2024", ("a calendar",))), ("a room", "no"), "photo", 2.5, 3, Calibration("m", "abc", 50)
    )


def test_defaults_and_the_sample() -> None:
    assert parse_policy("categories: {a: {prompts: [b]}}") == Policy((Category("a", ("b",)),))
    sample = parse_policy(resources.files("midsight.library.moderate").joinpath("policy.yaml").read_text())
    assert len(sample.categories) >= 4
    assert all(len(category.prompts) >= 2 and category.negatives for category in sample.categories)


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (("    threshold: 0.75", "    treshold: 0.75"), 14, "no key `treshold`; did you mean `threshold`?"),
        (("frames: 3", "colour: red"), 5, "no key `colour`; there are version, categories"),
        (("    threshold: 0.75", "    prompts: [x]"), 14, "`prompts` more than once"),
        (("threshold: 0.75", "threshold: high"), 14, "expected a number, got high"),
        (("threshold: 0.75", "threshold: '0.75'"), 14, "expected a number, got 0.75"),
        (("threshold: 0.75", "threshold: 1.5"), 14, "at most 1, got 1.5"),
        (("threshold: 0.75", "threshold: nan"), 14, "at most 1, got nan"),
        (("threshold: 0.75", "threshold: 0.25"), 15, "review must be above 0 and at most the threshold"),
        (("      - a gun", "      - yes"), 10, "expected a text, got yes; write it in quotes"),
        (("      - a gun", "      - ' '"), 10, "a text is empty"),
        (("      - a gun", "      - a rifle"), 10, "'a rifle' more than once"),
        (("      - a gun", "      - a toy"), 9, "'a toy' is a prompt and a negative"),
        (("[a toy]", "a toy"), 12, "must be a list, got a toy"),
        (("[more/gun.png]", "[more/sword.png]"), 13, "there is no such file"),
        (("[more/gun.png]", "[../gun.png]"), 13, "not a name inside"),
        (("frames: 3", "frames: 2.5"), 5, "expected a whole number, got 2.5"),
        (("frames: 3", "frames: 0"), 5, "frames must be at least 1"),
        (("version: 1", "version: 2"), 1, "expected version 1"),
        (("templates: photo", "templates: foto"), 3, "foto"),
        (("identity: abc, ", ""), 6, "has no `identity`"),
        (("    prompts: [a calendar]", "    threshold: 0.5"), 17, "neither prompts nor examples"),
        (('  "2024":', "  2024:"), 16, "expected a text, got 2024; write it in quotes"),
        (('  "2024":', "  weapons:"), 16, "`weapons` more than once"),
        (("[a toy]", "[a toy"), 13, "not YAML"),
        (("[a toy]", "*other"), 12, "aliases (*other) are not allowed"),
        (("[a toy]", "!!python/object/apply:os.system [id]"), None, ""),
        (("[a toy]", "[" * 500), 12, "nested more than 20 deep"),
        (("a gun", "a \x07 gun"), 10, "a character that YAML does not allow"),
    ],
)  # fmt: skip
def test_what_cannot_be(folder: Path, change: tuple[str, str], line: int | None, reason: str) -> None:
    path = folder / "policy.yaml"
    assert change[0] in WHOLE
    path.write_text(WHOLE.replace(*change, 1))
    if line is None:  # a tag is not followed: the list is read as the texts that it holds
        assert read_policy(path).categories[0].negatives == ("id",)
        return
    with pytest.raises(ConfigError, match=re.escape(reason)) as error:
        read_policy(path)
    assert str(error.value).startswith(f"{path}: line {line}: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(ConfigError, match=r"policy\.yaml: cannot be read"):
        read_policy(path)
    for data, reason in (
        (b"", "line 1: expected a policy"), (b"- a\n", "line 1: expected a policy"),
        (b"a: b\n\xff: c\n", "line 2: is not UTF-8"),
        (b"version: 1\n", "has no `categories`"), (b"#" * (1 << 21), "larger than 1 MiB"),
        (b"categories: []", "expected keys with values, got a list"), (b"categories: {}", "has no categories"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=re.escape(reason)):
            read_policy(path)


def test_a_text_from_elsewhere_opens_no_files(folder: Path) -> None:
    absolute = WHOLE.replace("more/gun.png", str(folder / "more" / "gun.png"))
    for text in (WHOLE, absolute):
        with pytest.raises(ConfigError, match="line 13: .* can have no example pictures"):
            parse_policy(text)
    assert parse_policy(absolute, folder=folder / "elsewhere").categories[0].examples == (folder / "more" / "gun.png",)


def test_a_link_does_not_lead_out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("outside") / "secret.png"
    secret.write_bytes(b"")
    (folder / "more" / "gun.png").unlink()
    (folder / "more" / "gun.png").symlink_to(secret)
    with pytest.raises(ConfigError, match="line 13: .*leads out of"):
        parse_policy(WHOLE, folder=folder)


def test_the_fingerprint_follows_everything(folder: Path) -> None:
    first = parse_policy(WHOLE, folder=folder)
    seen = {first.fingerprint, parse_policy(WHOLE.replace("0.75", "0.76"), folder=folder).fingerprint}
    assert parse_policy("# other\n" + WHOLE, folder=folder).fingerprint == first.fingerprint
    (folder / "more" / "gun.png").write_bytes(b"another picture")
    assert len(seen | {first.fingerprint, parse_policy(WHOLE, folder=folder).fingerprint}) == 3
