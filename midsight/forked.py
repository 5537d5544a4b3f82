"""Children that are copies of one process, their `Template`: it loads libraries once, and a copy is there at once.

template = Template((sys.executable, "-P", "-m", "midsight.library.index.worker"))
child = template.child({"seconds": 10})       then as any `midsight.child`

A copy shares the template's memory until it writes there. What it notes can be read after its death: the note lies in
memory that is its parent's, too. The template's side is `split`; a copy has `note` beside what every child has.
"""

import contextlib
import json
import math
import mmap
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from midsight.child import GRACE, Child, Process, pair, receive, send, started

_PAGE = 4096  # bytes of what a copy notes
_LENGTH = struct.Struct("<Q")  # bytes of a note; 0 while it is written

_page: mmap.mmap | None = None  # of a copy


def note(what: Mapping[str, Any]) -> None:
    """In a copy: what its parent should know if it dies now; takes the place of the last note, and costs no message.

    Raises:
        ValueError: it is too long.
    """
    if _page is not None:
        text = json.dumps(what).encode()
        _page[: _LENGTH.size] = _LENGTH.pack(0)
        _page[_LENGTH.size : _LENGTH.size + len(text)] = text
        _page[: _LENGTH.size] = _LENGTH.pack(len(text))


def _new_page() -> int:
    """A file of nothing but memory, where the system has that."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("midsight-note")
    else:
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    os.truncate(number, _PAGE)
    return number


class Copy(Child):
    """A child that has been copied from a template.

    Args:
        process, connection, hello: as `Child`.
        page: what it writes notes to.
    """

    def __init__(self, process: Process, connection: socket.socket, hello: Mapping[str, Any], page: mmap.mmap) -> None:
        super().__init__(process, connection, hello)
        self._page = page

    def noted(self) -> dict[str, Any]:
        """What a copy that has died noted last; empty if nothing, or if it died while it did so."""
        (length,) = _LENGTH.unpack_from(self._page)
        found: dict[str, Any] = json.loads(self._page[_LENGTH.size : _LENGTH.size + length] or b"{}")
        return found


class Template:
    """A process that has loaded what its children need: each is a copy of it, quick to make and in the same memory.

    Args:
        command: what to start; it ends in `split`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: Child | None = None
        self._lock = threading.Lock()
        self._closed = False

    def child(self, hello: Mapping[str, Any]) -> Copy:
        """A new copy; the first one takes as long as the template needs to load.

        Args:
            hello: the first message.

        Raises:
            EOFError, OSError: the template does not start, or is closed.
        """
        ours, theirs = pair()
        page = -1
        try:
            page = _new_page()
            pid = self._asked({"copy": True}, (theirs.fileno(), page))["pid"]
            return Copy(_Grandchild(self, pid), ours, hello, mmap.mmap(page, _PAGE))
        except (EOFError, OSError):
            ours.close()
            raise
        finally:
            theirs.close()
            if page >= 0:
                os.close(page)

    def close(self) -> None:
        """Ends it, at once; its children end with their connections."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # before the lock, for a thread may have that which waits until it has loaded
        with self._lock:
            self._forget()

    def _asked(self, question: Mapping[str, Any], passed: Sequence[int] = ()) -> dict[str, Any]:
        """Its answer. Where something is passed and it is gone, another one is started."""
        with self._lock:
            if self._closed:
                raise EOFError
            if self._process is None or (passed and not self._process.alive):
                self._forget()
                self._process = started(self._command, {})
            try:
                self._process.send(question, files=passed)
                return self._process.receive(GRACE)[0]
            except (EOFError, OSError):  # an answer that comes later would be taken for another's
                self._forget()
                raise

    def _forget(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None


class _Grandchild:
    """A child of a template, as a `Process`: its exit code is known to the template alone."""

    def __init__(self, template: Template, pid: int) -> None:
        self._template, self._pid = template, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._asked("code")
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            self._code = self._asked("kill")

    def wait(self, timeout: float | None = None) -> int:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a copy", timeout or 0.0)
            time.sleep(0.005)
        return code

    def _asked(self, what: str) -> int | None:
        if self._template._process is None:
            return -signal.SIGKILL  # no template any more: what became of its child is not to be known
        try:
            code: int | None = self._template._asked({what: self._pid})["code"]
        except (EOFError, OSError):
            return -signal.SIGKILL
        return code


def split(control: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """In a template: copies of this process, each of which serves a connection; until the other side is gone.

    No other thread may run: a copy would wait for its locks for ever.
    """
    receive(control)  # hello
    codes: dict[int, int | None] = {}
    while True:
        question, _ = receive(control)
        if "copy" in question:
            _, (number, page, *_), _, _ = socket.recv_fds(control, 1, 2)
            pid = os.fork()
            if pid == 0:
                control.close()
                _serve_and_leave(number, page, serve)
            os.close(number)
            os.close(page)
            codes[pid] = None
            send(control, {"pid": pid})
            continue
        ((what, pid),) = question.items()
        if codes.get(pid, 0) is None:
            if what == "kill":
                os.kill(pid, signal.SIGKILL)
            found, status = os.waitpid(pid, 0 if what == "kill" else os.WNOHANG)
            codes[pid] = os.waitstatus_to_exitcode(status) if found else None
        send(control, {"code": codes.get(pid, -signal.SIGKILL)})  # kept, as two threads may ask; unknown: of another


def _serve_and_leave(number: int, page: int, serve: Callable[[socket.socket], None]) -> NoReturn:
    global _page
    code = 1
    try:
        _page = mmap.mmap(page, _PAGE)
        os.close(page)  # the mapping has opened it for itself
        with contextlib.suppress(EOFError, ConnectionError), socket.socket(fileno=number) as parent:
            serve(parent)
        code = 0
    finally:
        os._exit(code)
