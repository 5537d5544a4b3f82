"""What those who watch a server see."""

from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

import midsight
from midsight.serve import EmbeddingService, Encoder, create_app
from midsight.serve.metrics import Metrics
from tests.serve import server
from tests.serve.server import Served, get


def test_figures_are_prometheus_text_and_count(tiny_folder: Path) -> None:
    metrics = Metrics()
    encoder = Encoder(lambda: midsight.load(tiny_folder, device="cpu", threads=1), metrics=metrics, decoder=None)
    with server.serving_app(create_app([EmbeddingService(encoder)], ["key"], metrics)) as address:
        key = {"Authorization": "Bearer key"}
        body = {"model": "tiny", "input": ["a", "b"]}
        assert server.post(address, body, key, "/v1/embeddings")[0] == 200
        assert server.post(address, {}, key, "/v1/embeddings")[0] == 400
        assert get(address, "/nothing/secret", key)[0] == 404
        assert get(address, "/metrics")[0] == 401
        for path in ("/healthz", "/readyz"):
            assert get(address, path)[0] == 200
        answer = httpx.get(f"{address}/metrics", headers=key)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["midsight_requests_total", "/v1/embeddings", "200"] == 1
    assert found["midsight_requests_total", "/v1/embeddings", "400"] == 1
    assert found["midsight_requests_total", "404", "none"] == 1
    assert found["midsight_batch_size_sum", "text"] == 2
    assert found["midsight_request_seconds_count", "/v1/embeddings"] == 2
    assert found["midsight_model_loaded",] == 1
    assert found["process_resident_memory_bytes",] > 1e6
    assert "secret" not in answer.text


def test_the_description_names_what_is_served(served: Served) -> None:
    status, document, _ = get(served.address, "/openapi.json")
    assert status == 200
    paths = {"/v1/embeddings", "/v1/classify", "/v1/models", "/v1/models/{name}", "/healthz", "/readyz", "/metrics"}
    assert set(document["paths"]) == paths
    for path in ("/v1/embeddings", "/v1/classify"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
        for example in content["application/json"]["examples"].values():
            assert served.post(example["value"], path)[0] == 200
