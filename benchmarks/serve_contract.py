"""schemathesis against a server: made requests, good and bad, must get what the API's own description says.

python -m benchmarks.serve_contract http://127.0.0.1:8000 --cases 2000
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from urllib.request import Request, urlopen

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
    """Make so many requests or a few more, spread over all operations.

    Raises:
        RuntimeError: schemathesis did not get as far as its summary.
    """
    each = -(-cases // _operations_with_inputs(address, key))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--max-examples", str(each),
        "--phases", PHASES, "--exclude-checks", EXCLUDED, "--seed", str(seed),
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


def _operations_with_inputs(address: str, key: str | None) -> int:
    """How many operations take anything; of the others there is one case each."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with urlopen(Request(f"{address}/openapi.json", headers=headers), timeout=60) as answer:
        paths = json.load(answer)["paths"]
    operations = [operation for of_path in paths.values() for operation in of_path.values()]
    return max(1, sum("requestBody" in one or "parameters" in one for one in operations))


def main(arguments: list[str]) -> int:
    """Exit code: 0, 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.serve_contract")
    parser.add_argument("address", help="of a server, as http://127.0.0.1:8000")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--key", help="API key")
    given = parser.parse_args(arguments)
    done = run(given.address, given.cases, given.seed, given.key)
    print(done.told if done.failures else "\n".join(done.summary))
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
