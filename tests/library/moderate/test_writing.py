"""Thresholds go into a policy's text, and nothing else changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from midsight.errors import OutputError
from midsight.library.moderate import Calibration, Policy, parse_policy
from midsight.library.moderate.writing import with_thresholds, write_policy

TEXT = """\
# ours
categories:   # all of them
  a b:
    # what it looks like
    prompts: [x, "y: z"]
    threshold: 0.5  # natural
    review: 0.25   # a person looks

  c: {prompts: [d], review: 0.1}
  e:
    prompts:
      - f   # the last

# the end
"""


def test_comments_and_order_stay() -> None:
    policy = parse_policy(TEXT)
    first, second, third = policy.categories
    wanted = replace(
        policy,
        categories=(
            replace(first, threshold=0.75, review=None), replace(second, threshold=0.125, review=0.0625),
            replace(third, threshold=1e-07),
        ),
        calibration=Calibration('a "model"\\', "id", 50),
    )  # fmt: skip
    found = with_thresholds(TEXT, wanted, "p.yaml", Path())
    assert parse_policy(found) == wanted
    lines = found.splitlines()
    for line in TEXT.splitlines():
        if "review" not in line and "threshold" not in line:
            assert line in lines
    assert "    threshold: 0.75  # natural" in lines
    assert "  c: {threshold: 0.125, prompts: [d], review: 0.0625}" in lines
    assert (
        len(lines) == len(TEXT.splitlines()) - 1 + 1 + 1
    )  # no review of the first; threshold of the third; calibration
    again = replace(wanted, calibration=Calibration("m", "other", 60))
    assert parse_policy(with_thresholds(found, again, "p.yaml", Path())) == again


def test_json_and_a_calibration_of_many_lines() -> None:
    text = '{"categories": {"a": {"prompts": ["b"]}}, "calibration": {"model": "m", "identity": "i", "files": 1}}'
    block = "calibration:\n  model: m\n  identity: i\n  files: 1\n\n# a\ncategories:\n  a:\n    prompts: [b]\n"
    for one in (text, block):
        policy = parse_policy(one)
        wanted = replace(policy, categories=(replace(policy.categories[0], threshold=0.25, review=0.125),),
                         calibration=Calibration("n", "j", 2))  # fmt: skip
        assert parse_policy(with_thresholds(one, wanted, "p", Path())) == wanted


def test_a_band_goes_wherever_it_stands() -> None:
    for inner in (
        "{review: 0.1, prompts: [b]}",
        "{prompts: [b], review: 0.1}",
        "{prompts: [b], review: 0.1 , threshold: 1}",
    ):
        text = f"categories: {{a: {inner}}}"
        category = parse_policy(text).categories[0]
        wanted = Policy((replace(category, threshold=0.75, review=None),))
        found = with_thresholds(text, wanted, "p", Path())
        assert parse_policy(found) == wanted
        assert ", }" not in found.replace(",}", ", }")


def test_another_policy_is_not_written_over_this_one() -> None:
    policy = parse_policy(TEXT)
    with pytest.raises(OutputError, match=r"p\.yaml: the thresholds could not be written"):
        with_thresholds(TEXT, replace(policy, frames=3), "p.yaml", Path())


def test_old_policies_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    assert write_policy("one", path) is None
    assert write_policy("two", path) == tmp_path / "policy.yaml.old"
    assert write_policy("three", path) == tmp_path / "policy.yaml.old1"
    assert [one.read_text() for one in sorted(tmp_path.iterdir())] == ["three", "one", "two"]
