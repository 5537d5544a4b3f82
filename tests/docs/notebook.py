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
    for cell in code_cells(notebook):
        cell.outputs = [_small(output) for output in _joined(cell.outputs)]
    return notebook


def _small(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Of a picture only the JPEG: IPython gives a PNG of ten times the size as well, and the object's address."""
    if "image/jpeg" in output.get("data", {}):
        output.data = {"image/jpeg": output.data["image/jpeg"]}
        output.metadata = {}
    return output


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Printed text in one piece: how many pieces it comes in depends on timing."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and the text of its result; not its pictures."""
    texts = [output.text for output in cell.outputs if output.output_type == "stream"]
    texts += [
        output.data["text/plain"]
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data") and "image/jpeg" not in output.data
    ]
    return "\n".join(text.strip("\n") for text in texts)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
