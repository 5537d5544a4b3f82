"""Writes everything in README and docs that is made by a program. Run: python docs/refresh.py

That is docs/cli.md, the parts between `<!-- generated: NAME -->` markers, the `text` block behind each code block, and
the outputs of docs/tour.ipynb. The pages run as they do in the tests: without a network, with stand-ins for published
weights.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the outputs must not depend on the machine's CPUs
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import nbformat

from tests.docs import blocks, notebook, sandbox

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def refresh_page(page: Path) -> bool:
    """Writes the outputs of a page that runs in the current folder; whether any of them says something new."""
    text, changes = page.read_text(encoding="utf-8"), []
    for _, printed, output in blocks.run_page(page):
        if output is not None and not blocks.same_output(output.text, printed):
            changes.append((output.span, f"```text\n{blocks.tidy(printed)}\n```"))
    for (start, end), new in reversed(changes):
        text = text[:start] + new + text[end:]
    if changes:
        page.write_text(text, encoding="utf-8")
    return bool(changes)


def refresh_notebook(folder: Path) -> bool:
    """Writes the outputs of the notebook; whether any text of it says something new."""
    before, after = nbformat.read(notebook.TOUR, as_version=4), notebook.run(folder)
    texts = [[notebook.printed(cell) for cell in notebook.code_cells(version)] for version in (before, after)]
    same = all(blocks.same_output(*pair) for pair in zip(*texts, strict=True)) and all(texts[0])
    if not same:
        nbformat.write(after, notebook.TOUR)
    return not same


def main() -> None:
    """Everything, and the names of what has changed."""
    for script in ("generate_cli.py", "generate_tables.py"):
        subprocess.run([sys.executable, str(ROOT / "docs" / script)], check=True)
    with tempfile.TemporaryDirectory() as place:
        cache = sandbox.write_cache(Path(place) / "hub")
        for job in (*PAGES, notebook.TOUR):
            folder = Path(place) / job.stem
            folder.mkdir()
            with sandbox.entered(sandbox.lay_out(folder), cache):
                changed = refresh_notebook(folder) if job == notebook.TOUR else refresh_page(job)
            print(f"{job.relative_to(ROOT)}: {'new outputs' if changed else 'as before'}")


if __name__ == "__main__":
    main()
