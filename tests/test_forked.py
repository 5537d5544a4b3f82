"""Copies of a template: what each knows for itself, and what is left of one that dies."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsight.forked import Copy, Template

# Notes what it is asked, and says who it is; of a copy that is to die, the note is all that comes.
SERVING = """
import os, signal
from midsight.child import connection, receive, send
from midsight.forked import note, split
def serve(parent):
    hello, _ = receive(parent)
    while True:
        question, _ = receive(parent)
        if question:
            note(question)
        if "die" in question:
            os.kill(os.getpid(), signal.SIGKILL)
        send(parent, hello | {"copy": os.getpid(), "template": os.getppid()})
with connection() as control:
    split(control, serve)
"""
WHO = ("copy", "template")


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    made = Template((sys.executable, "-P", "-c", SERVING))
    yield made
    made.close()


def asked(copy: Copy, **question: object) -> dict[str, object]:
    copy.send(question)
    return copy.receive(seconds=10)[0]


def test_each_copy_answers_for_itself(template: Template) -> None:
    copies = [template.child({"name": name}) for name in ("one", "two")]
    found = [asked(copy) for copy in copies]
    assert [answer["name"] for answer in found] == ["one", "two"]
    assert found[0]["template"] == found[1]["template"]
    assert len({answer["copy"] for answer in found}) == 2
    for copy in copies:
        copy.close()
        assert not copy.alive


def test_the_last_note_of_a_copy_outlives_it(template: Template) -> None:
    dying, other = template.child({}), template.child({})
    asked(dying, at=1)
    with pytest.raises((EOFError, ConnectionError)) as caught:
        asked(dying, at=2, die=True)
    assert dying.death(caught.value, 10).words == f"its decoder was killed by {signal.SIGKILL.name}."
    assert dying.noted() == {"at": 2, "die": True}
    asked(other)
    other.close()
    assert other.noted() == {}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="sees open files by Linux's /proc")
def test_a_copy_keeps_open_its_connection_and_the_mapping_of_its_notes_alone(template: Template) -> None:
    first, second = template.child({}), template.child({})
    asked(first)
    found = asked(second)
    own, of_template = ([os.readlink(file) for file in Path(f"/proc/{found[who]}/fd").iterdir()] for who in WHO)
    assert sum("midsight-note" in name for name in own) <= 1
    assert sum(name.startswith("socket:") for name in own) == 1
    assert len(own) == len(of_template) + 1, "one more than the template, that of the mapping"
    first.close()
    second.close()
