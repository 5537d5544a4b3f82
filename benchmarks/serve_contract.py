"""schemathesis against a server: made requests, good and bad, must get what the API's own description says.

python -m benchmarks.serve_contract http://127.0.0.1:8000 --cases 2000
"""

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass

# a schema cannot say how many tokens a text has or whether base64 is a picture: good ones may be refused with 400
EXCLUDED = "positive_data_acceptance"
PHASES = "examples,coverage,fuzzing"


@dataclass(frozen=True)
class Done:
    """What was found."""

    cases: int
    failures: int
    summary: list[str]  # lines
    told: str  # all of it


def run(address: str, cases: int, seed: int = 1, key: str | None = None) -> Done:
    """Make about so many requests.

    Raises:
        RuntimeError: schemathesis did not get as far as its summary.
    """
    bodies = 2  # most cases go to the operations that take a body
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--max-examples",
        str(max(1, cases // bodies)), "--phases", PHASES, "--exclude-checks", EXCLUDED, "--seed", str(seed),
        "--generation-database", "none", "--warnings", "off", "--request-timeout", "60",
    ]  # fmt: skip
    if key is not None:
        command += ["--header", f"Authorization: Bearer {key}"]
    with tempfile.TemporaryDirectory() as folder:  # it leaves reports where it runs
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.search(r"Test cases:\s+(\d+) generated", done.stdout)
    if found is None:
        raise RuntimeError(f"schemathesis failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    failures = sum(int(number) for number in re.findall(r"❌ .*: (\d+)$", done.stdout, re.MULTILINE))
    if done.returncode and not failures:
        failures = 1
    told = done.stdout
    summary = [line.strip() for line in told[told.rindex("SUMMARY") :].splitlines()[1:] if line.strip(" =")]
    return Done(int(found[1]), failures, summary, told)


def main(arguments: list[str]) -> int:
    """Exit code: 0, 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.serve_contract")
    parser.add_argument("address", help="of a server, as http://127.0.0.1:8000")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--key", help="API key")
    given = parser.parse_args(arguments)
    done = run(given.address, given.cases, key=given.key)
    print(done.told if done.failures else "\n".join(done.summary))
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
