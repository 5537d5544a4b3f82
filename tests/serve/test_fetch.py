"""Addresses in requests: nothing is fetched by default, nothing private ever, and the rest within limits."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midsight
from benchmarks import hostile
from midsight.library.moderate import read_policy
from midsight.library.moderate.scores import Scorer
from midsight.serve import Encoder, create_app
from midsight.serve.errors import ApiError
from midsight.serve.fetch import Fetcher, is_public
from midsight.serve.moderate import ModerateService, Rules
from tests.serve import server
from tests.serve.library import POLICY
from tests.serve.server import Served, file

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2001:0:53aa:64c:0:0:80ff:fffe", "localhost", "127.1", "2130706433",
    "0x7f000001", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_all_spellings(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


class Site(http.server.BaseHTTPRequestHandler):
    """A picture, redirects, and what a bad site does."""

    asked: list[str] = []

    def do_GET(self) -> None:
        Site.asked.append(self.path)
        port = self.server.server_address[1]
        go = {
            "/moved": "/cat.png",
            "/loop": "/loop",
            "/inside": f"http://127.0.0.1:{port}/cat.png",
            "/metadata": "http://169.254.169.254/latest/meta-data",
            "/decimal": f"http://2130706433:{port}/cat.png",
            "/file": "file:///etc/passwd",
            "/other": "http://other.example/cat.png",
            "/nowhere": "",
        }
        if self.path in go:
            self.send_response(302)
            self.send_header("Location", go[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        if self.path == "/slow":
            for _ in range(40):
                self.wfile.write(b"x")
                time.sleep(0.05)
        elif self.path == "/endless":
            self.wfile.write(bytes(100_000))
        elif self.path == "/text":
            self.wfile.write(b"secret text")
        else:
            self.wfile.write(file(0))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running.server_address[1]
    running.shutdown()
    running.server_close()
    thread.join(10)


@pytest.fixture
def fetcher(site: int, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    """The site under a public-looking name: of all private addresses, only this one is let through."""
    real = socket.getaddrinfo

    def found(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "pictures.example" else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    Site.asked.clear()
    hosts = (f"pictures.example:{site}", f"127.0.0.1:{site}", "169.254.169.254", f"2130706433:{site}")
    return Fetcher(hosts, seconds=1.0, public=lambda address: address == "127.0.0.1")


def fetch(fetcher: Fetcher, site: int, path: str, most: int = 50_000) -> bytes:
    return fetcher.fetch(f"http://pictures.example:{site}{path}", "input.0", most)


def test_a_file_is_fetched_also_behind_a_redirect(fetcher: Fetcher, site: int) -> None:
    assert fetch(fetcher, site, "/cat.png") == file(0)
    assert fetch(fetcher, site, "/moved") == file(0)
    assert Site.asked == ["/cat.png", "/moved", "/cat.png"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/loop", "more than 3 redirects"),
        ("/metadata", "fetches nothing from there"),
        ("/file", "fetches nothing from there"),
        ("/other", "fetches nothing from there"),
        ("/nowhere", "more than 3 redirects"),
        ("/missing", "answers with status 404"),
        ("/endless", "more than 50000 bytes"),
        ("/slow", "takes too long"),
    ],
)
def test_what_a_site_may_not_do(fetcher: Fetcher, site: int, path: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(ApiError, match=message) as caught:
        fetch(fetcher, site, path)
    assert (caught.value.status, caught.value.param) == (400, None if caught.value.param is None else "input.0")
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("path", ["/inside", "/decimal"])
def test_a_redirect_to_a_private_address_is_refused_though_its_name_is_allowed(
    fetcher: Fetcher, site: int, path: str
) -> None:
    first = iter([True])  # the site itself counts as public the first time, and never again
    strict = replace(fetcher, public=lambda _: next(first, False))
    with pytest.raises(ApiError, match="fetches nothing from there"):
        fetch(strict, site, path)
    assert Site.asked == [path]


def test_a_name_of_which_one_address_is_private_is_refused(monkeypatch: pytest.MonkeyPatch, site: int) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, site)) for address in ("8.8.8.8", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    Site.asked.clear()
    with pytest.raises(ApiError, match="fetches nothing from there"):
        Fetcher((f"pictures.example:{site}",)).fetch(f"http://pictures.example:{site}/cat.png", "input.0", 1000)
    assert not Site.asked


def test_the_connection_goes_to_the_address_that_was_checked(
    fetcher: Fetcher, site: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes its address between the check and the connection gains nothing."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def found(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert fetch(fetcher, site, "/cat.png") == file(0)
    assert asked.count("pictures.example") == 1


@pytest.mark.parametrize("allowed", [False, True])
def test_no_forbidden_form_is_connected_to(tiny_folder: Path, allowed: bool) -> None:
    with hostile.sink() as sink:
        names = [*hostile.ALLOWED, *(f"{host}:{sink.port}" for host in (*hostile.ALLOWED, "2130706433", "0x7f000001"))]
        fetcher = Fetcher(tuple(names)) if allowed else Fetcher()
        with server.serving_encoder(tiny_folder, fetcher=fetcher) as served:
            forms = hostile.addresses(sink.port)
            assert len(forms) >= 30
            for url in forms:
                status, body, _ = served.post({"input": {"type": "image_url", "image_url": {"url": url}}})
                assert (status, body["error"]["code"]) == (400, "invalid_image_url"), url
            assert served.embed("still there").shape == (1, 32)
        assert not sink.heard
        socket.create_connection(("127.0.0.1", sink.port)).close()  # the sink does hear
        server.until(lambda: len(sink.heard) == 1)


def test_a_picture_from_an_allowed_host_is_embedded(
    fetcher: Fetcher, site: int, tiny_folder: Path, tiny_model: midsight.Perception
) -> None:
    def url(path: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": f"http://pictures.example:{site}{path}"}}

    with server.serving_encoder(tiny_folder, fetcher=fetcher) as served:
        expected = [tiny_model.embed_images([file(0)])[0], tiny_model.embed_texts("a cat")[0]]
        np.testing.assert_allclose(served.embed(url("/moved"), "a cat"), expected, atol=1e-6)
        status, body, _ = served.post({"input": url("/text")})
        assert (status, body["error"]["code"]) == (400, "invalid_image_format")
        assert "secret" not in str(body)


def test_a_picture_from_an_allowed_host_is_judged(fetcher: Fetcher, site: int, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    model = midsight.load(device="cpu", threads=1)
    policy = read_policy(tmp_path / "policy.yaml")
    encoder = Encoder(lambda: model, fetcher=fetcher, decoder=None)
    service = ModerateService(encoder, Rules(policy, Scorer(model, policy)))

    def judge(path: str) -> tuple[int, Any]:
        part = {"type": "image_url", "image_url": {"url": f"http://pictures.example:{site}{path}"}}
        return server.post(address, {"input": [part]}, path="/v1/moderate")[:2]

    with server.serving_app(create_app([service])) as address:
        status, body = judge("/moved")
        assert status == 200, body
        sent = server.post(address, {"input": [server.data_url(file(0))]}, path="/v1/moderate")[1]
        assert body["data"] == sent["data"]
        for path, code in (("/text", "invalid_image_format"), ("/metadata", "invalid_image_url"), ("/missing", None)):
            status, body = judge(path)
            assert (status, body["error"]["param"]) == (400, "input.0.image_url.url")
            assert code in (None, body["error"]["code"])
        assert encoder._places.now.bodies == 0  # what was fetched is given back


def test_served_by_default_fetches_nothing(served: Served, site: int) -> None:
    Site.asked.clear()
    for url in (f"http://127.0.0.1:{site}/cat.png", f"http://localhost:{site}/cat.png"):
        assert served.post({"input": {"type": "image_url", "image_url": {"url": url}}})[0] == 400
    assert not Site.asked
