"""The notebook runs from top to bottom and shows what it says it shows."""

from pathlib import Path

import nbformat

from tests.docs import blocks, notebook


def test_notebook_runs_and_prints_what_it_shows(docs_folder: Path) -> None:
    shown = notebook.code_cells(nbformat.read(notebook.TOUR, as_version=4))
    fresh = notebook.code_cells(notebook.run(docs_folder))
    assert len(shown) > 5
    for number, (old, new) in enumerate(zip(shown, fresh, strict=True), 1):
        assert blocks.same_output(notebook.printed(old), notebook.printed(new)), (
            f"cell {number} shows\n{notebook.printed(old)}\nbut prints\n{notebook.printed(new)}\n"
            "`python docs/refresh.py` writes the outputs anew."
        )
    pictures = [output for cell in fresh for output in cell.outputs if "image/jpeg" in output.get("data", {})]
    assert len(pictures) == 3
