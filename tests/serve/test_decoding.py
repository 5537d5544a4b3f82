"""Files that hang or kill their decoder: each costs its own request, whatever else is asked meanwhile."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midsight
from midsight.images import Limits
from midsight.plm import PLM
from midsight.serve import EncoderLimits
from midsight.serve.child import Unreadable, Wanted
from midsight.serve.decoding import Decoders, template
from midsight.serve.errors import ApiError
from midsight.video import VideoLimits
from tests.serve import server
from tests.serve.library import DEMO
from tests.serve.server import Served, data_url, file

# The decoder itself, with pictures that do to it what stands behind their end.
ODD = """
import os, signal, time
from midsight.serve import child
real = child.Reader._read
def read(self, data, wanted):
    if data.endswith(b"HANG"):
        time.sleep(1000)
    if data.endswith(b"SPIN"):
        while True:
            pass
    if data.endswith(b"KILL"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.endswith(b"EXIT"):
        os._exit(3)
    if data.endswith(b"ODDS"):
        raise KeyError("what nobody thought of")
    return real(self, data, wanted)
child.Reader._read = read
child.main()
"""
COMMAND = (sys.executable, "-P", "-c", ODD)
SECONDS = 1.0
FAULTS = {
    b"HANG": "took longer than 1 s to decode",
    b"SPIN": "took longer than 1 s to decode",
    b"KILL": "its decoder was killed by SIGSEGV",
    b"EXIT": "its decoder ended with code 3",
    b"ODDS": "it cannot be decoded (KeyError)",
}


@pytest.fixture(scope="module")
def odd(tiny_folder: Path) -> Iterator[Served]:
    with server.serving_encoder(
        tiny_folder, EncoderLimits(decode_seconds=SECONDS, timeout=120), decoder=COMMAND
    ) as served:
        yield served


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_costs_its_own_request(odd: Served, tiny_model: midsight.Perception, fault: bytes) -> None:
    good = tiny_model.embed_images([file(n) for n in range(6)])
    with ThreadPoolExecutor(7) as pool:
        bad = pool.submit(odd.post, {"input": ["a cat", data_url(file(9) + fault)]})
        others = list(pool.map(odd.embed, [data_url(file(n)) for n in range(6)]))
        status, body, _ = bad.result()
    assert status == 400
    assert body["error"]["message"] == f"input.1: the picture cannot be read: {FAULTS[fault]}"
    assert (body["error"]["code"], body["error"]["param"]) == ("invalid_image", "input.1")
    np.testing.assert_allclose(np.concatenate(others), good, atol=1e-5)


def test_texts_do_not_wait_behind_files_that_hang(odd: Served) -> None:
    with ThreadPoolExecutor(4) as pool:
        hanging = [pool.submit(odd.post, {"input": data_url(file(n) + b"HANG")}) for n in range(4)]
        server.until(lambda: odd.encoder._places.now.frames == 4)
        assert odd.embed("a cat").shape == (1, 32)
        assert not all(one.done() for one in hanging)  # two at once, then the other two
        assert [one.result()[0] for one in hanging] == [400] * 4


def test_a_picture_of_a_question_costs_its_own_answer(plm: PLM) -> None:
    def ask(data: bytes) -> tuple[int, Any, Any]:
        parts = [server.image(data_url(data)), server.text("What?")]
        return server.post(address, server.asked(messages=[server.user(*parts)]))

    with server.serving(plm, decoder=COMMAND) as address:
        status, body, _ = ask(file(0) + b"KILL")
        assert (status, "picture 1 cannot be read: its decoder was killed by SIGSEGV" in json.dumps(body)) == (
            400,
            True,
        )
        assert ask(file(0))[0] == 200


def test_a_template_that_dies_is_replaced(tiny_model: midsight.Perception) -> None:
    decoders = Decoders(tiny_model.preprocess, Limits(), 60.0, (*COMMAND, "another"))
    made = template((*COMMAND, "another"))
    decoders.read(file(0), Wanted("picture"))
    assert made._process is not None
    made._process._process.kill()
    decoders.read(file(0), Wanted("picture"))  # what has been made goes on
    with pytest.raises(Unreadable):
        decoders.read(file(0) + b"KILL", Wanted("picture"))
    decoders.read(file(0), Wanted("picture"))
    decoders.close()
    with pytest.raises(ApiError, match="being stopped"):
        decoders.read(file(0), Wanted("picture"))
    made.close()


@pytest.mark.parametrize("what", ["picture", "video", "raw", "seconds"])
def test_pixels_are_those_of_this_process(tiny_model: midsight.Perception, what: str) -> None:
    data = (DEMO / ("temple.mp4" if what in ("video", "seconds") else "cat.jpg")).read_bytes()
    wanted = Wanted(what, 3, (1.0, 2.5), VideoLimits(max_seconds=100))
    made = [Decoders(tiny_model.preprocess, Limits(), 60.0, **more) for more in ({}, {"command": None})]
    found, expected = (np.asarray(decoders.read(data, wanted)) for decoders in made)
    np.testing.assert_array_equal(found, expected)
    assert found.size == 1 or found.std() > 10
    told = []
    for decoders in made:
        with pytest.raises(Unreadable) as caught:
            decoders.read(data[:8] + bytes(1000), wanted)
        told.append(str(caught.value))
        decoders.close()
    assert told[0] == told[1]
    assert "bytes>" not in told[0]
