"""A process beside this one that is given one thing after the other: what hangs it or kills it costs that thing alone.

child = Child((sys.executable, "-P", "-m", "midsight.library.index.worker"), {"seconds": 10})
child.send({"path": "cat.jpg"})
header, data = child.receive(seconds=10)      EOFError where it died; `death` then says why

Messages are a header in JSON and plain bytes behind it: nothing that a broken file could make of the child is run by
the other side. The child's side is `connection`, `send`, `receive` and `give_time`; it ends when its parent is gone.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SUPPORTED = os.name == "posix"  # elsewhere a connection cannot be handed to a new process
_LENGTHS = struct.Struct("<QQ")  # bytes of the header and of what follows it
_MOST = 1 << 34  # bytes of one message: more was not meant
_BUFFER = 4 << 20  # bytes that may lie in the connection
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
    return json.loads(header), data


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


@dataclass(frozen=True)
class Death:
    """How a child ended: whether its time was over, and words for it behind the name of a file."""

    late: bool
    words: str


class Child:
    """A process, from the first line on; it may need some time until it answers.

    Args:
        command: what to start; the number of a connection is added to it.
        hello: the first message.
    """

    def __init__(self, command: Sequence[str], hello: Mapping[str, Any]) -> None:
        self._connection, theirs = socket.socketpair()
        for end in (self._connection, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        # the package must be the one that runs here; a command has -P so that nothing is imported from the current
        # folder, which may be one of pictures from anywhere
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        self._fresh = True
        send(self._connection, hello)

    def __del__(self) -> None:
        """Nobody can ask it any more."""
        if hasattr(self, "_process"):
            self.kill()
        self._connection.close()  # not in `kill`: a thread may wait for it

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def send(self, header: Mapping[str, Any], data: Any = b"") -> None:
        """Give it a message.

        Raises:
            OSError: it is gone.
        """
        self._connection.settimeout(_START)
        send(self._connection, header, data)

    def receive(self, seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Its next message.

        Raises:
            EOFError, OSError: it is gone.
            TimeoutError: it says nothing for so long; the first time it may take longer.
        """
        self._connection.settimeout(seconds + (_START if self._fresh else 0))
        message = receive(self._connection)
        self._fresh = False
        return message

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


class Children:
    """One child for each thread that asks; started on first use, started anew after a death.

    Args:
        start: starts one.
    """

    def __init__(self, start: Callable[[], Child]) -> None:
        self._start = start
        self._of_thread = threading.local()
        self._all: list[Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def mine(self) -> Child | None:
        """This thread's child; None once they are closed."""
        child: Child | None = getattr(self._of_thread, "child", None)
        if child is not None and child.alive:
            return child
        with self._lock:  # what is started here is seen by `close`
            if self._closed:
                return None
            child = self._of_thread.child = self._start()
            self._all = [other for other in self._all if other.alive] + [child]
            return child

    def close(self) -> None:
        """Ends all of them, at once."""
        with self._lock:
            self._closed = True
            for child in self._all:
                child.kill()
