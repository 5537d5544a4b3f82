"""Every Python and Bash block of README and docs runs, and prints what the page shows."""

from pathlib import Path

import pytest

from tests.docs import blocks, sandbox

PAGES = [sandbox.ROOT / "README.md", *sorted((sandbox.ROOT / "docs").glob("*.md"))]
SPECIAL = {  # all blocks that do not run as they stand, by the first line
    ("README.md", "not run", "make demo   # classify, compare and show the shipped media; writes demo/index.html"),
    ("README.md", "without CUDA", "import torch"),
    ("ablation.md", "not run", "python -m benchmarks.ablation --build"),
    ("ask.md", "not run", "pip install 'midsight[plm,documents]'"),
    ("ask.md", "not run", 'midsight ask report.pdf "Who approved the budget?"'),
    ("ask.md", "not run", 'midsight ask report.pdf "What is the total?" --json'),
    ("cluster.md", "not run", "ray start --head --port 6379                # on the first machine"),
    ("cluster.md", "not run", "ray job submit --address http://HEAD:8265 -- \\"),
    ("dense_use.md", "not run", "midsight depth camera:0 -o recordings --seconds 10"),
    ("detection.md", "not run", "from midsight.tasks import detection"),
    ("documents_data.md", "not run", "midsight data build documents --out data/documents --count 10000"),
    (
        "embedded.md",
        "not run",
        "make default-model   # or: python -m midsight.train.embedded --out FOLDER --device cuda",
    ),
    ("lang_training.md", "not run", 'run="torchrun --nproc-per-node 8 -m midsight.cli.main"'),
    (
        "language_evaluation.md",
        "not run",
        "midsight plm evaluate docvqa --data DocVQA --model facebook/Perception-LM-1B -o report",
    ),
    (
        "language_evaluation.md",
        "not run",
        "lmms-eval --model midsight_plm --model_args pretrained=facebook/Perception-LM-1B,device=cpu "
        "--tasks docvqa_val --limit 8",
    ),
    (
        "language_evaluation.md",
        "not run",
        "MIDSIGHT_LMMS_EVAL=/tmp/lmms-eval python -m pytest tests/evaluate/language/test_lmms.py",
    ),
    (
        "moderation.md",
        "not run",
        "midsight moderate review verdicts.jsonl -o review.html --decisions decisions.jsonl",
    ),
    (
        "open_vocabulary.md",
        "not run",
        "python -m midsight.evaluate.open_vocabulary --scenes runs/spatial/test --packages runs/embedded/data",
    ),
    ("plm.md", "not run", "import torch"),
    ("plm.md", "not run", "from midsight.plm import Sampling"),
    ("plm.md", "not run", 'page = answerer.read(["invoice.png"])'),
    ("plm.md", "not run", "from midsight.plm.answer import Ask"),
    ("search_page.md", "not run", "midsight serve --demo"),
    ("search_page.md", "not run", "midsight serve --index photos"),
    ("search_page.md", "not run", "import requests"),
    ("search_page.md", "not run", "midsight serve --index photos --policy policy.yaml"),
    ("serve.md", "not run", "midsight serve --plm facebook/Perception-LM-1B"),
    ("serve.md", "not run", "import base64"),
    ("serve.md", "not run", 'MIDSIGHT_API_KEYS="$(cat keys.txt)" midsight serve --host 0.0.0.0'),
    ("serve.md", "not run", "midsight serve PE-Core-L14-336"),
    ("spatial.md", "not run", "midsight data scenes --out scenes --count 2000 --size 448"),
    (
        "spatial.md",
        "not run",
        "torchrun --nproc-per-node 8 -m midsight.cli.main train spatial spatial_g14 --data shards --out runs/spatial-g",
    ),
    (
        "spatial.md",
        "not run",
        "midsight train spatial spatial_distill --from PE-Core-L14-336 --data photos --out runs/spatial-l",
    ),
    (
        "training.md",
        "not run",
        "midsight data caption videos --out captioned --captioner plm:facebook/Perception-LM-1B --frames 8",
    ),
}
DRAWINGS = {  # shown, printed by nothing
    ("architecture.md", "path, bytes, PIL image, array, tensor          labels"),
    ("lang_training.md", "[[data.sets]]"),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run_and_print_what_the_page_shows(page: Path, docs_folder: Path) -> None:
    different = [
        f"{output} shows\n{output.text}\nbut {block} prints\n{printed}"
        for block, printed, output in blocks.run_page(page)
        if output is not None and not blocks.same_output(output.text, printed)
    ]
    assert not different, "\n".join([*different, "`python docs/refresh.py` writes the outputs anew."])


def test_blocks_that_do_not_run_as_they_stand_are_listed_with_a_reason() -> None:
    found = [block for page in PAGES for block in blocks.read_blocks(page) if block.special]
    assert {(block.page.name, block.special, block.text.partition("\n")[0]) for block in found} == SPECIAL
    assert all(block.reason for block in found)


def test_no_block_is_of_a_language_that_the_tests_pass_over() -> None:
    for page in PAGES:
        found = blocks.read_blocks(page)
        assert {block.language for block in found} <= {*blocks.RUN, "text"}, page.name
        shown = {id(output) for _, output in blocks.with_outputs(found) if output is not None}
        alone = [block for block in found if block.language == "text" and id(block) not in shown]
        if page.name != "cli.md":
            assert {(page.name, block.text.partition("\n")[0]) for block in alone} <= DRAWINGS


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a cat  93.1%", "a cat 92.9%", True),
        ("a cat  93.1%", "a cat 80.2%", False),
        ("(2, 512)", "(2, 513)", False),
        ("(2, 512)", "(3, 512)", False),
        ("True", "False", False),
        ("layer 1", "layer", False),
        ("PE-Core-T16-384", "PE-Core-S16-384", False),
    ],
)
def test_outputs_are_compared_by_words_and_close_numbers(shown: str, printed: str, same: bool) -> None:
    assert blocks.same_output(shown, printed) is same


def test_blocks_are_found_with_comment_line_and_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "A\n\n<!-- not run: no\nnetwork -->\n```bash\nfalse\n```\n\n- item\n\n  ```python\n  print(1 + 1)\n  ```\n\n"
        "  ```text\n  2\n  ```\n\n<!-- generated: x -->\n```text\nskipped\n```\n<!-- /generated -->\n"
    )
    shell, code, output = blocks.read_blocks(page)
    assert (shell.language, shell.line, shell.special, shell.reason, shell.runs) == (
        "bash",
        5,
        "not run",
        "no network",
        False,
    )
    assert (code.text, output.text) == ("print(1 + 1)\n", "2\n")
    assert list(blocks.run_page(page)) == [(code, "2\n", output)]


def test_a_failing_block_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nfalse | cat\necho on\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: exit code 1"):
        list(blocks.run_page(page))
    page.write_text("text\n```python\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as error:
        list(blocks.run_page(page))
    assert error.traceback[-1].lineno == 2  # from 0: the page's own line
