"""Running the notebook, and reading what it shows."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.docs import sandbox

TOUR = sandbox.ROOT / "docs" / "tour.ipynb"
SECONDS = 60  # for one cell


def run(folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh run in `folder`, without what differs between two runs."""
    notebook = nbformat.read(TOUR, as_version=4)
    # record_timing writes times of the clock into the file
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}, record_timing=False
    )
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and the text of its result; not its pictures."""
    texts = [output.text for output in cell.outputs if output.output_type == "stream"]
    texts += [
        output.data["text/plain"]
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data") and "image/png" not in output.data
    ]
    return "\n".join(text.strip("\n") for text in texts)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
