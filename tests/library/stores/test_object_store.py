"""An index whose rows lie in an object store: the real client against a local server that speaks S3."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

import midsight
from midsight.library.index import Indexer, Library, Query, Settings


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT": address, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="pictures")
    yield "s3://pictures/index"
    server.stop()


def test_rows_in_a_bucket(tiny_model: midsight.Perception, tmp_path: Path, bucket: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.png")
    with Indexer(tiny_model, photos, store=bucket, decoder=None) as indexer:
        assert [outcome.result for outcome in indexer.run()] == ["indexed"] * 5
    assert not (photos / ".midsight" / "g0001" / "rows").exists()
    (photos / "4.png").unlink()
    with Indexer(tiny_model, photos, decoder=None) as indexer:
        assert [outcome.did for outcome in indexer.run()] == ["removed"]
    with Library(photos) as library:
        assert [hit.path for hit in library.search(Query(images=(photos / "3.png",), top=1), tiny_model)] == ["3.png"]
        assert library.count() == 4
    with Indexer(tiny_model, photos, decoder=None, settings=Settings(frames=2), reembed=True) as indexer:
        assert len(list(indexer.run())) == 4
    with Indexer(tiny_model, photos, decoder=None):
        pass
    keys = [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket="pictures")["Contents"]]
    assert {key.split("/")[0] for key in keys} == {"index-g0002"}, "the old rows are gone"
