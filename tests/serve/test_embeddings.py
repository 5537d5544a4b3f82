"""Embeddings through the official client and by uploads: those of a Perception, and what is refused."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

import midsight
from midsight.serve import EncoderLimits
from midsight.transforms import get_text_tokenizer
from tests.serve import server
from tests.serve.server import Served, client, data_url, file

MEDIA = Path(__file__).parent.parent / "media"
CLIP = MEDIA / "b_frames.mp4"
TEXTS = ["a cat on a sofa", "a dog", "Zwölf Boxkämpfer"]


def test_the_official_client_gets_the_embeddings_of_texts_and_pictures(
    served: Served, tiny_model: midsight.Perception
) -> None:
    files = [file(seed, kind, height=40 + seed) for seed, kind in enumerate(["png", "jpeg", "webp", "gif", "bmp"])]
    urls = [data_url(data, "image/x-any") for data in files]
    expected = np.concatenate([tiny_model.embed_texts(TEXTS), tiny_model.embed_images(files)])
    assert len({row.round(3).tobytes() for row in expected}) == len(expected)  # no two are alike
    create = client(served.address).embeddings.create
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 32, "user": "me"}):
        found = create(model="tiny", input=[*TEXTS, *urls], **options)  # type: ignore[arg-type]
        assert (found.object, found.model) == ("list", "tiny")
        assert [entry.index for entry in found.data] == list(range(len(expected)))
        rows = [_row(entry.embedding) for entry in found.data]
        np.testing.assert_allclose(rows, expected, atol=1e-6)
    tokens = sum(len(ids) + 2 for ids in get_text_tokenizer(16).encode(TEXTS))
    assert found.usage.prompt_tokens == found.usage.total_tokens == tokens
    single = create(model="tiny", input=TEXTS[0])
    np.testing.assert_allclose(single.data[0].embedding, expected[0], atol=1e-6)


def _row(embedding: Any) -> Any:
    return np.frombuffer(base64.b64decode(embedding), "<f4") if isinstance(embedding, str) else embedding


def test_parts_videos_and_uploads_keep_their_order(served: Served, tiny_model: midsight.Perception) -> None:
    parts = [
        {"type": "text", "text": TEXTS[0]},
        {"type": "image_url", "image_url": {"url": data_url(file(0)), "detail": "low"}},
        {"type": "video_url", "video_url": {"url": data_url(CLIP.read_bytes(), "video/mp4")}},
        data_url(CLIP.read_bytes(), "video/mp4"),
    ]
    expected = [
        tiny_model.embed_texts(TEXTS[0])[0],
        tiny_model.embed_images([file(0)])[0],
        *[tiny_model.embed_videos([CLIP], num_frames=3)[0]] * 2,
    ]
    np.testing.assert_allclose(served.embed(*parts, num_frames=3), expected, atol=1e-6)
    answer = httpx.post(
        f"{served.address}/v1/embeddings",
        data={"model": "tiny", "input": [TEXTS[0], "a dog"], "num_frames": "3", "encoding_format": "base64"},
        files=[("file", file(0)), ("file", CLIP.read_bytes())],
    )
    assert answer.status_code == 200
    rows = [_row(entry["embedding"]) for entry in answer.json()["data"]]
    order = [expected[0], tiny_model.embed_texts("a dog")[0], *expected[1:3]]
    np.testing.assert_allclose(rows, order, atol=1e-6)


def test_a_text_that_looks_like_an_address_is_a_text(served: Served, tiny_model: midsight.Perception) -> None:
    texts = ["http://example.com/a", "data: what is it?"]
    np.testing.assert_allclose(served.embed(*texts), tiny_model.embed_texts(texts), atol=1e-6)


def test_long_texts_are_refused_or_cut_where_that_is_asked_for(served: Served, tiny_model: midsight.Perception) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    status, body, _ = served.post({"input": ["a", long]})
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "context_length_exceeded", "input.1")
    assert "15 tokens, the model reads 14" in body["error"]["message"]
    model = served.encoder._model
    assert model is not None
    model._tokenizer._warned = True  # it says once that it cuts, which is no error here
    expected = tiny_model.embed_texts(long.removesuffix(" fifteen"))
    np.testing.assert_allclose(served.embed(long, truncate=True), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        (b"", 400, None, "Invalid JSON"),
        (b"[" * 100_000, 400, None, "Invalid JSON"),
        (b"[]", 400, None, "the body: Input should be"),
        (b'{"input": "a"}', 400, "model", "model: Field required"),
        ({"model": "gpt-4o", "input": "a"}, 404, "model", "no 'gpt-4o' here, only 'tiny'"),
        ({}, 400, "input", "0 entries, expected 1 to 256"),
        ({"input": []}, 400, "input", "0 entries"),
        ({"input": ["a"] * 257}, 400, "input", "257 entries"),
        ({"input": None}, 400, "input", "valid array"),
        ({"input": 3}, 400, "input", "valid array"),
        ({"input": [1, 2]}, 400, "input", "token numbers are of another vocabulary"),
        ({"input": [[1, 2]]}, 400, "input", "token numbers are of another vocabulary"),
        ({"input": ["a", " "]}, 400, "input.1", "the text is empty"),
        ({"input": "a" * 5000}, 400, "input.0", "5000 characters"),
        ({"input": [{"type": "input_audio"}]}, 400, "input.0", "a part of the type text, image_url or video_url"),
        ({"input": [{"type": "image_url"}]}, 400, "input.0.image_url", "Field required"),
        ({"input": "a", "dimensions": 16}, 400, "dimensions", "the model gives 32"),
        ({"input": "a", "dimensions": "32"}, 400, "dimensions", "valid integer"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format", "'float' or 'base64'"),
        ({"input": "a", "num_frames": 0}, 400, "num_frames", "greater than or equal to 1"),
        ({"input": "a", "top_k": 3}, 400, "top_k", "not permitted"),
        ({"input": data_url(b"abc")}, 400, "input.0", "neither a picture"),
        ({"input": data_url(b"<svg/>", "image/svg+xml")}, 400, "input.0", "neither a picture"),
        ({"input": "data:image/png;base64,###"}, 400, "input.0", "not in base64"),
        ({"input": "data:image/png,abc"}, 400, "input.0", "expected a picture or video as data:"),
        ({"input": "data:text/plain;base64,abcd"}, 400, "input.0", "expected a picture or video as data:"),
        ({"input": data_url(file(0)[:60])}, 400, "input.0", "the picture cannot be read"),
        ({"input": data_url((MEDIA / "cut.mp4").read_bytes(), "video/mp4")}, 400, "input.0", "cut or broken"),
        ({"input": data_url((MEDIA / "audio_only.m4a").read_bytes(), "video/mp4")}, 400, "input.0", "cannot be read"),
        ({"input": {"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}}, 400, None, "fetches no addr"),
    ],
)
def test_requests_that_cannot_be(served: Served, body: Any, status: int, param: str | None, message: str) -> None:
    found, answer, _ = served.post(body)
    assert found == status
    assert answer["error"]["type"] == "invalid_request_error"
    assert param is None or answer["error"]["param"] == param
    assert message in answer["error"]["message"]
    assert "Limits" not in json.dumps(answer)


def test_a_form_has_the_same_refusals(served: Served) -> None:
    def post(data: dict[str, Any], files: Any = (), **headers: str) -> tuple[int, str]:
        answer = httpx.post(f"{served.address}/v1/embeddings", data=data, files=files, headers=headers)
        return answer.status_code, answer.json()["error"]["message"]

    picture = [("file", file(0))]
    assert post({"model": "tiny", "num_frames": "many"}, picture)[1].startswith("num_frames: Input should be a valid")
    assert post({"model": "tiny", "colour": "1"}, picture) == (400, "colour: Extra inputs are not permitted")
    assert post({"model": ["tiny", "tiny"]}, picture) == (400, "model: is there more than once")
    assert post({"model": "tiny"}, [("picture", file(0))]) == (400, "picture: files belong in the field 'file'")
    assert post({"model": "tiny"}, [("file", b"abc")])[1].startswith("file.0: neither a picture")
    assert post({"model": "tiny"}, picture, Origin="http://evil.example")[0] == 403
    assert post({"model": "tiny"}, [("file", file(0)[:60])], Origin=served.address)[0] == 400
    kinds = {"Content-Type": "multipart/form-data"}
    assert server.post(served.address, b"abc", kinds, "/v1/embeddings")[0] == 400
    kinds = {"Content-Type": "multipart/form-data; boundary=x"}
    assert server.post(served.address, b"--y\r\nabc", kinds, "/v1/embeddings")[0] == 400
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png"):
        assert server.post(served.address, b"{}", {"Content-Type": kind}, "/v1/embeddings")[0] == 415


def test_limits_of_bytes_pixels_and_frames(tiny_folder: Path) -> None:
    limits = EncoderLimits(
        max_body_bytes=60_000, max_image_bytes=3000, max_pixels=90 * 60, max_clip_pixels=40_000, max_inputs=2
    )
    with server.serving_encoder(tiny_folder, limits) as served:
        assert served.embed(data_url(file(0))).shape == (1, 32)
        for data, message in (
            (file(0, height=300, width=400), "400x300 is 120000 pixels, the limit is 5400"),
            (file(0, "bmp"), "the limit of this server is 3000"),
        ):
            status, body, _ = served.post({"input": data_url(data)})
            assert (status, body["error"]["code"]) == (400, "image_too_large")
            assert message in body["error"]["message"]
        status, body, _ = served.post({"input": data_url(CLIP.read_bytes(), "video/mp4"), "num_frames": 64})
        assert (status, body["error"]["code"]) == (400, "image_too_large")
        assert served.post({"input": ["a", "b", "c"]})[0] == 400
        assert served.post({"input": "a" * 61_000})[0] == 413


def test_an_encoder_without_texts_embeds_pictures_only(dense_folder: Path) -> None:
    with server.serving_encoder(dense_folder) as served:
        expected = midsight.load(dense_folder, device="cpu").embed_images([file(0)])
        np.testing.assert_allclose(served.embed(data_url(file(0))), expected, atol=1e-6)
        status, body, _ = served.post({"input": "a cat"})
        assert (status, body["error"]["param"]) == (400, "input.0")
        assert "embeds pictures and videos only" in body["error"]["message"]
        assert served.post({"input": data_url(file(0)), "labels": ["a"]}, "/v1/classify")[0] == 404


def test_models_are_listed_once(served: Served) -> None:
    assert [model.id for model in client(served.address).models.list()] == ["tiny"]
    with pytest.raises(openai.NotFoundError, match="only 'tiny'"):
        client(served.address).embeddings.create(model="other", input="a")
