"""Classification over HTTP: that of a Perception, for pictures and videos."""

from pathlib import Path
from typing import Any

import httpx
import pytest

import midsight
from midsight.serve import EncoderLimits
from tests.serve import server
from tests.serve.server import Served, data_url, file

CLIP = Path(__file__).parent.parent / "media" / "b_frames.mp4"
LABELS = ["a cat", "a dog", "a car"]


@pytest.mark.parametrize("templates", [None, "photo", "a drawing of {c}", ["a {c}.", "the {c}."]])
def test_predictions_are_those_of_a_perception(served: Served, tiny_model: midsight.Perception, templates: Any) -> None:
    expected = tiny_model.classify([file(0), file(1)], LABELS, templates, top_k=2)
    expected += tiny_model.classify([CLIP], LABELS, templates, top_k=2, num_frames=4)
    inputs = [data_url(file(0)), data_url(file(1)), data_url(CLIP.read_bytes(), "video/mp4")]
    body: dict[str, Any] = {"input": inputs, "labels": LABELS, "top_k": 2, "num_frames": 4}
    status, answer, _ = served.post(body | ({} if templates is None else {"templates": templates}), "/v1/classify")
    assert (status, answer["object"], answer["model"]) == (200, "list", "tiny")
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    _check(answer["data"], expected)


def _check(data: Any, expected: list[list[Any]]) -> None:
    for entry, predictions in zip(data, expected, strict=True):
        assert [one["label"] for one in entry["predictions"]] == [one.label for one in predictions]
        scores = [one["score"] for one in entry["predictions"]]
        assert scores == pytest.approx([one.score for one in predictions], abs=1e-5)


def test_uploads_are_classified(served: Served, tiny_model: midsight.Perception) -> None:
    answer = httpx.post(
        f"{served.address}/v1/classify",
        data={"model": "tiny", "labels": LABELS, "templates": "photo", "top_k": "1"},
        files=[("file", file(0)), ("file", CLIP.read_bytes())],
    )
    assert answer.status_code == 200
    expected = [*tiny_model.classify([file(0)], LABELS, "photo", top_k=1)]
    expected += tiny_model.classify([CLIP], LABELS, "photo", top_k=1)
    _check(answer.json()["data"], expected)


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"labels": []}, "labels", "at least 1 item"),
        ({"labels": ["a", "a"]}, "labels", "more than once: 'a'"),
        ({"labels": ["a", " "]}, "labels", "label 2 is ' '"),
        ({"labels": ["word " * 20]}, "labels.0", "20 tokens"),
        ({"labels": ["a" * 5000]}, "labels", "5000 characters"),
        ({"labels": [f"{n}" for n in range(1001)]}, "labels", "1001, the limit of this server is 1000"),
        ({"templates": "imagenot"}, "templates", "no templates named"),
        ({"templates": ["a", "b"]}, "templates", "has no {c}"),
        ({"templates": "imagenet1k", "labels": [f"{n}" for n in range(100)]}, "templates", "the limit of this server"),
        ({"top_k": 0}, "top_k", "greater than or equal to 1"),
        ({"input": "a cat"}, "input.0", "expected a picture or a video"),
        ({"input": []}, "input", "0 entries"),
    ],
)
def test_requests_that_cannot_be(served: Served, more: dict[str, Any], param: str, message: str) -> None:
    status, answer, _ = served.post({"input": data_url(file(0)), "labels": LABELS, **more}, "/v1/classify")
    assert (status, answer["error"]["param"]) == (400, param)
    assert message in answer["error"]["message"]


def test_labels_without_templates_share_batches_with_other_texts(tiny_folder: Path) -> None:
    with server.serving_encoder(tiny_folder, EncoderLimits(max_prompts=3)) as served:
        body = {"input": data_url(file(0)), "labels": LABELS}
        assert served.post(body, "/v1/classify")[0] == 200
        assert served.post({**body, "templates": ["a {c}", "the {c}"]}, "/v1/classify")[0] == 400
