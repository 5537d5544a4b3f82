"""A process beside this one that is given one thing after the other: what hangs it or kills it costs that thing alone.

child = started((sys.executable, "-P", "-m", "midsight.library.index.worker"), {"seconds": 10})
child.send({"path": "cat.jpg"})
header, data = child.receive(seconds=10)      EOFError where it died; `death` then says why

A `Template` is for those who need several, or new ones soon: it loads libraries once, and each child is a copy of it.

Messages are a header in JSON and plain bytes behind it: nothing that a broken file could make of the child is run by
the other side. The child's side is `connection`, `send`, `receive`, `give_time`, `note` and `split`; it ends when its
parent is gone.
"""

import contextlib
import json
import math
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

SUPPORTED = os.name == "posix"  # elsewhere a connection cannot be handed to a new process
_LENGTHS = struct.Struct("<QQ")  # bytes of the header and of what follows it
_MOST = 1 << 34  # bytes of one message: more was not meant
_BUFFER = 4 << 20  # bytes that may lie in the connection
_PAGE = 4096  # bytes of what a copy notes
_LENGTH = struct.Struct("<Q")  # bytes of a note; 0 while it is written
_START = 120.0  # seconds in which a new process has to be there, on a busy machine
_GRACE = 5.0  # seconds in which the system has to end one


def send(connection: socket.socket, header: Mapping[str, Any], data: Any = b"") -> None:
    """One message."""
    text = json.dumps(header).encode()
    connection.sendall(_LENGTHS.pack(len(text), len(data)) + text)
    if len(data):
        connection.sendall(data)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytearray]:
    """The next message.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: nothing came within the connection's time limit.
    """
    sizes = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    if sum(sizes) > _MOST:
        raise EOFError
    header, data = (_exactly(connection, size) for size in sizes)
    return json.loads(header.decode()), data


def _exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


@contextlib.contextmanager
def connection() -> Iterator[socket.socket]:
    """In the child: the connection to its parent, whose number is the last argument; its end ends the block."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    with contextlib.suppress(EOFError, ConnectionError), socket.socket(fileno=int(sys.argv[-1])) as ours:
        yield ours


def give_time(seconds: float) -> None:
    """In the child: how long it may still live; 0 takes the limit away. Whatever code it is in, the alarm ends it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


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


@dataclass(frozen=True)
class Death:
    """How a child ended: whether its time was over, and words for it behind the name of a file."""

    late: bool
    words: str


class Process(Protocol):
    """What ends a child; a `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; subprocess.TimeoutExpired where it goes on."""
        ...


class Child:
    """A process that can be asked, once it is there.

    Args:
        process: it.
        connection: to it.
        hello: the first message.
        page: what it writes notes to.
    """

    def __init__(
        self,
        process: Process,
        connection: socket.socket,
        hello: Mapping[str, Any],
        page: mmap.mmap | None = None,
    ) -> None:
        self._process, self._connection, self._page = process, connection, page
        self._fresh = True
        self._waiting = threading.Lock()
        with contextlib.suppress(OSError):  # where it is gone already, the first question says so
            send(self._connection, hello)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def idle(self) -> bool:
        """Whether it is there and has nothing to say, as between two questions; a copy's exit code is far to ask."""
        number = self._connection.fileno()
        events = select.poll()
        if number >= 0:
            events.register(number, select.POLLIN)
        return number >= 0 and not events.poll(0)

    def send(self, header: Mapping[str, Any], data: Any = b"") -> None:
        """Give it a message.

        Raises:
            OSError: it is gone.
        """
        with self._waiting:
            self._connection.settimeout(_START)
            send(self._connection, header, data)

    def receive(self, seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Its next message.

        Raises:
            EOFError, OSError: it is gone.
            TimeoutError: it says nothing for so long; the first time it may take longer.
        """
        with self._waiting:
            self._connection.settimeout(seconds + (_START if self._fresh else 0))
            message = receive(self._connection)
        self._fresh = False
        return message

    def close(self) -> None:
        """Ends it, from any thread; whoever waits for an answer hears of the end."""
        self.kill()
        with self._waiting:  # a thread that waits must not find another connection under the same number
            self._connection.close()

    def kill(self) -> None:
        """Ends it, from any thread; whoever waits for an answer hears of the end."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE)

    def end(self) -> int | None:
        """Ends it, closes the connection, and gives its exit code; None where the system cannot end it now."""
        try:
            self._process.wait(timeout=0.2)  # dying by itself: its own code tells why
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._connection.close()
        try:
            return self._process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            return None

    def noted(self) -> dict[str, Any]:
        """What a copy that has died noted last; empty if nothing, or if it died while it did so."""
        if self._page is None:
            return {}
        (length,) = _LENGTH.unpack_from(self._page)
        found: dict[str, Any] = json.loads(self._page[_LENGTH.size : _LENGTH.size + length] or b"{}")
        return found

    def death(self, error: Exception, seconds: float) -> Death:
        """Ends it after an error of `send` or `receive`.

        Args:
            seconds: what it had for one thing.
        """
        code = self.end()
        if isinstance(error, TimeoutError) or code == -signal.SIGALRM:
            return Death(True, f"took longer than {seconds:g} s to decode.")
        if code is not None and code < 0:
            return Death(False, f"its decoder was killed by {signal.Signals(-code).name}.")
        return Death(False, f"its decoder ended with code {code}.")


def started(command: Sequence[str], hello: Mapping[str, Any]) -> Child:
    """A process that is started now; it may need some time until it answers.

    Args:
        command: what to start; the number of a connection is added to it.
        hello: the first message.
    """
    ours, theirs = _pair()
    # the package must be the one that runs here; a command has -P so that nothing is imported from the current folder,
    # which may be one of pictures from anywhere
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with theirs:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    return Child(process, ours, hello)


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ours, theirs


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

    def child(self, hello: Mapping[str, Any]) -> Child:
        """A new copy; the first one takes as long as the template needs to load.

        Args:
            hello: the first message.

        Raises:
            EOFError, OSError: the template does not start, or is closed.
        """
        ours, theirs = _pair()
        page = -1
        try:
            page = _new_page()
            pid = self._asked({"copy": True}, (theirs.fileno(), page))["pid"]
            return Child(_Copy(self, pid), ours, hello, mmap.mmap(page, _PAGE))
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
                self._process.send(question)
                if passed:
                    socket.send_fds(self._process._connection, [b"."], list(passed))
                return self._process.receive(_GRACE)[0]
            except (EOFError, OSError):  # an answer that comes later would be taken for another's
                self._forget()
                raise

    def _forget(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None


class _Copy:
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
        with contextlib.suppress(EOFError, ConnectionError), socket.socket(fileno=number) as parent:
            serve(parent)
        code = 0
    finally:
        os._exit(code)


class Children:
    """One child for each thread that asks; started on first use, started anew after a death.

    Args:
        start: starts one; may raise EOFError or OSError.
    """

    def __init__(self, start: Callable[[], Child]) -> None:
        self._start = start
        self._of_thread = threading.local()
        self._all: list[Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def mine(self) -> Child | None:
        """This thread's child; None once they are closed. Raises what `start` raises."""
        child: Child | None = getattr(self._of_thread, "child", None)
        if child is not None and child.idle:
            return child
        if child is not None:
            child.close()
        if self._closed:
            return None
        child = self._start()  # may take long, and `close` does not wait for it
        with self._lock:
            if not self._closed:
                self._of_thread.child = child
                self._all = [other for other in self._all if other.alive] + [child]
                return child
        child.close()
        return None

    def close(self) -> None:
        """Ends all of them, at once."""
        with self._lock:
            self._closed = True
            for child in self._all:
                child.close()
