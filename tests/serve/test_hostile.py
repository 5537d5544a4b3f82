"""Uploads that mean harm: each is refused, or taken as the whole picture that it is; none brings the server down."""

import time
from pathlib import Path

import pytest

from benchmarks import hostile
from midsight.serve import EncoderLimits
from tests.serve import server
from tests.serve.server import post

SLOW = "7000 x 7000"  # pictures of 49 million pixels: `python -m benchmarks.serve_faults` has them, too
FORMATS = {"avif", "heic"}  # need decoders that may be missing


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: data for name, data in hostile.files().items() if SLOW not in name}


def test_there_are_three_hundred(files: dict[str, bytes]) -> None:
    assert len(files) >= 300


def test_each_is_refused_or_taken_and_the_server_goes_on(tiny_folder: Path, files: dict[str, bytes]) -> None:
    wrong: list[str] = []
    with server.serving_encoder(tiny_folder) as served:
        for name, data in files.items():
            body, kind = hostile.form(data, "tiny")
            start = time.monotonic()
            status, answer, _ = post(served.address, body, {"Content-Type": kind}, "/v1/embeddings")
            expected = {200} if name.startswith("whole") else {200, 400} if name.startswith("maybe") else {400}
            if status not in expected or time.monotonic() - start > 2:
                wrong.append(f"{name}: {status} after {time.monotonic() - start:.1f} s, {str(answer)[:200]}")
            if status != 200:
                assert answer["error"]["param"] == "file.0"
        assert not wrong
        assert served.embed("still there").shape == (1, 32)


def test_a_bomb_is_refused_before_it_is_decoded(tiny_folder: Path, files: dict[str, bytes]) -> None:
    limits = EncoderLimits(max_pixels=1000 * 1000)
    with server.serving_encoder(tiny_folder, limits) as served:
        for name in ("bomb png 8000 x 8000", "bomb gif 65535 x 65535", "bomb jpeg 65535 x 65535"):
            body, kind = hostile.form(files[name], "tiny")
            status, answer, _ = post(served.address, body, {"Content-Type": kind}, "/v1/embeddings")
            assert (status, answer["error"]["code"]) == (400, "image_too_large"), name
