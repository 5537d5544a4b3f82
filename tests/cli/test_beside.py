"""Work in a copy of the process. The tests' own process holds torch, so that each needs a fresh one."""

import subprocess
import sys
from pathlib import Path

import pytest

from midsight.cli.beside import beside

HEAD = """
import os, signal, sys, time
from midsight.cli.beside import beside
from midsight.errors import InputError, MidsightError
"""


def run(script: str, *words: object) -> str:
    command = [sys.executable, "-c", HEAD + script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the work is done here")
def test_the_work_goes_on_beside() -> None:
    said = run("""
def work():
    time.sleep(0.5)
    return os.getpid(), list(range(100_000))
start = time.perf_counter()
with beside(work) as result:
    time.sleep(0.5)
    process, numbers = result()
print(process != os.getpid(), len(numbers), time.perf_counter() - start < 0.95)
""")
    assert said == "True 100000 True\n"


def test_what_is_raised_is_raised_here() -> None:
    said = run("""
def work(error):
    raise error
for error in (InputError("photos: no"), KeyError("x")):
    with beside(lambda: work(error)) as result:
        try:
            result()
        except Exception as raised:
            print(type(raised).__name__, raised, "in work" in "".join(getattr(raised, "__notes__", [])))
""")
    assert said == "InputError photos: no False\nKeyError 'x' True\n"


def test_a_copy_that_is_killed_is_told() -> None:
    said = run("""
with beside(lambda: os.kill(os.getpid(), signal.SIGKILL)) as result:
    try:
        result()
    except MidsightError as error:
        print(error)
""")
    assert said == "the process that was to load the model was killed; is the memory out?\n"


def test_who_leaves_early_waits_for_nothing(tmp_path: Path) -> None:
    said = run(
        """
def work():
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(100)
start = time.perf_counter()
try:
    with beside(work) as result:
        while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
            time.sleep(0.01)
        raise InputError("no index")
except InputError as error:
    print(error, time.perf_counter() - start < 20)
try:
    os.kill(int(open(sys.argv[1]).read()), 0)
except ProcessLookupError:
    print("ended")
""",
        tmp_path / "process",
    )
    assert said == "no index True\nended\n"


def test_where_torch_is_loaded_the_work_is_done_here() -> None:
    assert "torch" in sys.modules
    done = []
    with beside(lambda: done.append(1) or len(done)) as result:
        assert done == []
        assert result() == 1
    assert done == [1]
