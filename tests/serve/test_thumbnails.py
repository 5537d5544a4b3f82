"""Files of the index that hang or kill their decoder: each costs its own small picture."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import midsight
from midsight.library.index import Hit, Library
from midsight.library.index.preview import thumbnail
from midsight.serve import create_app, thumbnails
from midsight.serve.collection import Collection
from midsight.serve.decoding import template
from midsight.serve.errors import ApiError
from midsight.serve.items import DRAWERS, ItemService
from midsight.serve.thumbnails import SIDE, Thumbnails
from tests.serve.library import make_index
from tests.serve.server import file, serving_app, until

# The decoder itself, with files that do to it what they are called.
ODD = """
import os, signal, time
from pathlib import Path
from midsight.serve import child
real = child._small
def small(shown):
    with open(os.environ["TRIED"], "a") as tried:
        tried.write(Path(shown.path).name + "\\n")
    if "hang" in shown.path:
        while True:
            pass
    if "kill" in shown.path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(shown)
child._small = small
child.main()
"""
COMMAND = (sys.executable, "-P", "-c", ODD)
SECONDS = 5.0  # a machine may have other work
NAMES = ("a.png", "b.png", "broken.png", "hang.png", "kill.png", "z.png")
ENDS = {
    "hang.png": (504, "timeout", "hang.png: took longer than 5 s to decode"),
    "kill.png": (404, "file_gone", "kill.png: its decoder was killed by SIGSEGV"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, tiny_model: midsight.Perception) -> Path:
    root = tmp_path_factory.mktemp("library") / "pictures"
    root.mkdir()
    for number, name in enumerate(NAMES):
        (root / name).write_bytes(file(number, width=400))
    make_index(tiny_model, root)
    (root / "broken.png").write_bytes(b"no picture any more")
    return root


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What decoders of this test were asked for."""
    monkeypatch.setenv("TRIED", str(tmp_path / "tried"))
    return tmp_path / "tried"


@pytest.fixture
def command(tmp_path: Path, tried: Path) -> Iterator[tuple[str, ...]]:
    """A template for this test alone: it has the environment of its start."""
    made = (*COMMAND, str(tmp_path))
    yield made
    template(made).close()


@pytest.fixture
def api(
    photos: Path, tiny_model: midsight.Perception, tmp_path: Path, command: tuple[str, ...]
) -> Iterator[httpx.Client]:
    made = Thumbnails(tmp_path / "kept", seconds=SECONDS, command=command)
    service = ItemService(Collection(photos / ".midsight", tiny_model), made)
    with serving_app(create_app([service])) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def hits(photos: Path) -> dict[str, Hit]:
    """Of all files, by path."""
    with Library(photos) as library:
        ids = [row["id"] for rows in library.store.scan(("id",)) for row in rows.to_pylist()]
        return {hit.path: hit for hit in map(library.hit, ids)}


def addresses(api: httpx.Client) -> dict[str, str]:
    items = api.get("/v1/items").json()["data"]
    return {item["path"]: f"/v1/items/{item['id']}/thumbnail" for item in items}


def test_a_file_costs_its_own_picture(api: httpx.Client, photos: Path, tried: Path) -> None:
    of = addresses(api)
    assert sorted(of) == sorted(NAMES)
    with ThreadPoolExecutor(len(NAMES)) as pool:
        answers = dict(zip(NAMES, pool.map(lambda name: api.get(of[name]), NAMES), strict=True))
    for name in ("a.png", "b.png", "z.png"):
        assert answers[name].content == thumbnail(photos / name, "image", side=SIDE, encoding="WEBP")
    for name, (status, code, message) in ENDS.items():
        error = answers[name].json()["error"]
        assert (answers[name].status_code, error["code"], error["message"]) == (status, code, message)
    assert (answers["broken.png"].status_code, answers["broken.png"].json()["error"]["code"]) == (404, "file_gone")
    # what ended its decoder is told again without another one
    for name, (status, _, message) in ENDS.items():
        again = api.get(of[name])
        assert (again.status_code, again.json()["error"]["message"]) == (status, message)
    assert sorted(tried.read_text().split()) == sorted(NAMES)


def test_a_file_that_has_changed_or_later_is_tried_again(
    photos: Path, tried: Path, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Thumbnails(tmp_path / "kept", seconds=SECONDS, command=command)
    names = hits(photos)
    for _ in range(2):
        with pytest.raises(ApiError, match=r"killed by SIGSEGV"):
            made.get(names["kill.png"])
    assert tried.read_text().split() == ["kill.png"]
    (photos / "kill.png").write_bytes(file(7, width=300))
    with pytest.raises(ApiError, match=r"killed by SIGSEGV"):
        made.get(names["kill.png"])
    assert tried.read_text().split() == ["kill.png"] * 2
    monkeypatch.setattr(thumbnails, "AGAIN", 0.0)  # as if time had passed
    with pytest.raises(ApiError, match=r"killed by SIGSEGV"):
        made.get(names["kill.png"])
    assert tried.read_text().split() == ["kill.png"] * 3
    made.close()


def test_the_end_does_not_wait_for_a_file_that_hangs(
    photos: Path, tried: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    made = Thumbnails(tmp_path / "kept", seconds=600.0, command=command)
    hit = hits(photos)["hang.png"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(made.get, hit)
        while not (tried.exists() and tried.read_text()):
            time.sleep(0.01)
        made.close()
        with pytest.raises(ApiError):
            waiting.result(timeout=60)


def test_without_processes_pictures_are_made_here(photos: Path, tmp_path: Path) -> None:
    made = Thumbnails(tmp_path / "kept", command=None)
    names = hits(photos)
    assert made.get(names["a.png"])[0] == thumbnail(photos / "a.png", "image", side=SIDE, encoding="WEBP")
    with pytest.raises(ApiError, match=r"broken.png: cannot be read any more"):
        made.get(names["broken.png"])


def test_what_a_page_gave_up_is_not_made(photos: Path, tiny_model: midsight.Perception, tmp_path: Path) -> None:
    asked, go = list[Hit](), threading.Event()

    class Slow(Thumbnails):
        def get(self, hit: Hit) -> tuple[bytes, str]:
            asked.append(hit)
            go.wait(60)
            return b"picture", "name"

    service = ItemService(Collection(photos / ".midsight", tiny_model), Slow(tmp_path / "kept", command=None))
    with serving_app(create_app([service])) as address, httpx.Client(base_url=address, timeout=60) as api:
        path = addresses(api)["a.png"]
        with ThreadPoolExecutor(DRAWERS) as pool:
            made = [pool.submit(api.get, path) for _ in range(DRAWERS)]
            until(lambda: len(asked) == DRAWERS)
            given_up = [socket.create_connection(("127.0.0.1", httpx.URL(address).port)) for _ in range(10)]
            for one in given_up:
                one.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            until(lambda: len(service._turns._waiters or ()) == len(given_up))
            for one in given_up:
                one.close()
            time.sleep(0.2)  # for the server to hear of it
            go.set()
            assert [answer.result().content for answer in made] == [b"picture"] * DRAWERS
        assert api.get(path).content == b"picture"  # behind all of them
        assert len(asked) == DRAWERS + 1
