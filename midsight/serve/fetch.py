"""Files from addresses that a request names: only from hosts that were allowed by name, and never from a private one.

Nothing is fetched unless the server was started with a list of hosts. A name is resolved once, each of its addresses
must be public, and the connection goes to the very address that was checked. A redirect is a new address with the same
checks.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from midsight.serve.errors import ApiError

REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
CHUNK = 1 << 16
TRANSLATED = (  # IPv6 networks whose addresses stand for IPv4 ones, and where those begin
    (ipaddress.IPv6Network("64:ff9b::/96"), 12),  # RFC 6052
    (ipaddress.IPv6Network("2002::/16"), 2),  # 6to4, RFC 3056
    (ipaddress.IPv6Network("::/96"), 12),  # compatible, RFC 4291
)

LOCAL_TRANSLATED = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215


def is_public(address: str) -> bool:
    """Whether an IP address belongs to everyone's Internet, whatever it is written as."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.teredo is not None or found.is_site_local or found in LOCAL_TRANSLATED:
            return False
        for network, start in TRANSLATED:
            if found in network:
                return is_public(str(ipaddress.IPv4Address(found.packed[start : start + 4])))
    return found.is_global and not found.is_multicast and not found.is_reserved


@dataclass(frozen=True)
class Fetcher:
    """Fetches from the hosts that it was given.

    Attributes:
        hosts: names, exactly as addresses have them; "name:port" for another port than that of the scheme.
        seconds: of one fetch, redirects included.
        public: which IP addresses may be connected to.
    """

    hosts: Sequence[str] = ()
    seconds: float = 10.0
    public: Callable[[str], bool] = is_public

    def fetch(self, url: str, place: str, max_bytes: int) -> bytes:
        """What is at an address.

        Raises:
            ApiError: 400, it is not allowed, not there, too large or too slow.
        """
        end = time.monotonic() + self.seconds
        for _ in range(REDIRECTS + 1):
            parts = self._checked(url, place)
            try:
                address = self._address(parts, place)
                with _Open(parts, address, end) as connection, _asked(connection, parts) as answer:
                    if answer.status not in (301, 302, 303, 307, 308):
                        return _read(answer, max_bytes, end, place)
                    url = urljoin(url, answer.headers.get("Location", ""))
            except (OSError, http.client.HTTPException, ValueError):  # what it was says something of our network
                raise _refused(place, f"{parts.hostname} gives no such file") from None
        raise _refused(place, f"more than {REDIRECTS} redirects")

    def _checked(self, url: str, place: str) -> SplitResult:
        """The parts of an address that is allowed."""
        if not self.hosts:
            raise _refused(place, "this server fetches no addresses: send the file itself, as a data: URL")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise _refused(place, "this is no address") from None
        default = PORTS.get(parts.scheme)
        named = host if port in (None, default) else f"{host}:{port}"
        if default is None or parts.username is not None or parts.password is not None or named not in self.hosts:
            raise _refused(place, "this server fetches nothing from there: send the file itself, as a data: URL")
        if any(ord(letter) <= 32 or ord(letter) >= 127 for letter in url):
            raise _refused(place, "an address with spaces or letters outside ASCII; encode them")
        return parts

    def _address(self, parts: SplitResult, place: str) -> tuple[str, int]:
        """Where to connect: all that the name stands for must be public, so that a retry finds nothing else."""
        port = parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(self.public(address) for address in addresses):
            raise _refused(place, "this server fetches nothing from there: send the file itself, as a data: URL")
        return addresses[0], port


class _Open:
    """A connection to an address that was checked, under the name that it was found by; closed with the block."""

    def __init__(self, parts: SplitResult, address: tuple[str, int], end: float) -> None:
        left = max(0.1, end - time.monotonic())
        raw = socket.create_connection(address, timeout=left)
        try:
            if parts.scheme == "https":
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)
            self.connection = http.client.HTTPConnection(parts.hostname or "", address[1], timeout=left)
            self.connection.sock = raw
        except BaseException:
            raw.close()
            raise

    def __enter__(self) -> http.client.HTTPConnection:
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def _asked(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": "midsight", "Accept": "image/*, video/*"})
    return connection.getresponse()


def _read(answer: http.client.HTTPResponse, max_bytes: int, end: float, place: str) -> bytes:
    """The body, never more than the limit."""
    if answer.status != 200:
        raise _refused(place, f"the address answers with status {answer.status}")
    body = bytearray()
    while chunk := answer.read1(CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise _refused(place, f"the file has more than {max_bytes} bytes, the limit of this server")
        if time.monotonic() > end:
            raise _refused(place, "the file takes too long to come")
    return bytes(body)


def _refused(place: str, why: str) -> ApiError:
    return ApiError(400, f"{place}: {why}", "invalid_image_url", place)
