"""A process beside this one that is given one thing after the other: what hangs it or kills it costs that thing alone.

child = started((sys.executable, "-P", "-m", "midsight.library.index.worker"), {"seconds": 10})
child.send({"path": "cat.jpg"})
header, data = child.receive(seconds=10)      EOFError where it died; `death` then says why

Messages are a header in JSON and plain bytes behind it: nothing that a broken file could make of the child is run by
the other side. The child's side is `connection`, `send`, `receive` and `give_time`; it ends when its parent is gone.

Those who need several, or new ones soon, have them copied from one that is ready: `midsight.forked`.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

C = TypeVar("C", bound="Child")

SUPPORTED = os.name == "posix"  # elsewhere a connection cannot be handed to a new process
GRACE = 5.0  # seconds in which the system has to end one
_LENGTHS = struct.Struct("<QQ")  # bytes of the header and of what follows it
_MOST = 1 << 34  # bytes of one message: more was not meant
_BUFFER = 4 << 20  # bytes that may lie in the connection
_START = 120.0  # seconds in which a new process has to be there, on a busy machine


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
    """

    def __init__(self, process: Process, connection: socket.socket, hello: Mapping[str, Any]) -> None:
        self._process, self._connection = process, connection
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

    def send(self, header: Mapping[str, Any], data: Any = b"", files: Sequence[int] = ()) -> None:
        """Give it a message.

        Args:
            files: open ones that go with one byte behind it, for `socket.recv_fds`.

        Raises:
            OSError: it is gone.
        """
        with self._waiting:
            self._connection.settimeout(_START)
            send(self._connection, header, data)
            if files:
                socket.send_fds(self._connection, [b"."], list(files))

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
            self._process.wait(timeout=GRACE)

    def end(self) -> int | None:
        """Ends it, closes the connection, and gives its exit code; None where the system cannot end it now."""
        try:
            self._process.wait(timeout=0.2)  # dying by itself: its own code tells why
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._connection.close()
        try:
            return self._process.wait(timeout=GRACE)
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


def started(command: Sequence[str], hello: Mapping[str, Any]) -> Child:
    """A process that is started now; it may need some time until it answers.

    Args:
        command: what to start; the number of a connection is added to it.
        hello: the first message.
    """
    ours, theirs = pair()
    # the package must be the one that runs here; a command has -P so that nothing is imported from the current folder,
    # which may be one of pictures from anywhere
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with theirs:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    return Child(process, ours, hello)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection that takes much before anybody reads."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ours, theirs


class Children(Generic[C]):
    """One child for each thread that asks; started on first use, started anew after a death.

    Args:
        start: starts one; may raise EOFError or OSError.
    """

    def __init__(self, start: Callable[[], C]) -> None:
        self._start = start
        self._of_thread = threading.local()
        self._all: list[C] = []
        self._lock = threading.Lock()
        self._closed = False

    def mine(self) -> C | None:
        """This thread's child; None once they are closed. Raises what `start` raises."""
        child: C | None = getattr(self._of_thread, "child", None)
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
