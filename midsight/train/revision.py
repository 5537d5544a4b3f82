"""Which state of the source a trained artefact comes from."""

import subprocess
from pathlib import Path


def revision() -> str:
    """The git revision of this source tree, with "+" if files differ from it; "unknown" outside a repository."""
    folder = Path(__file__).parent
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--", str(folder.parent)])
    try:
        head, changed = (
            subprocess.run(c, cwd=folder, capture_output=True, text=True, check=True).stdout.strip() for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")
