"""Search over HTTP: the hits of a `Library`, items, their pictures and files, moderation and review."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import midsight
from midsight.errors import ConfigError, InputError
from midsight.library.index import Filter, Hit, Library, Query
from midsight.library.moderate import Moderator, read_policy
from midsight.library.moderate.labels import read_decisions
from midsight.serve.auth import make_pass
from midsight.serve.metrics import Metrics
from midsight.serve.services import Wanted, open_services
from midsight.serve.thumbnails import Thumbnails
from tests.serve.library import DEMO, POLICY, make_index, make_photos, serving_library
from tests.serve.server import data_url, file

NOBODY = "0" * 32


@pytest.fixture(scope="module")
def model() -> midsight.Perception:
    return midsight.load(device="cpu", threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, model: midsight.Perception) -> Path:
    root = make_photos(tmp_path_factory.mktemp("library") / "photos")
    make_index(model, root)
    (root.parent / "policy.yaml").write_text(POLICY)
    return root


@pytest.fixture(scope="module")
def api(photos: Path) -> Iterator[httpx.Client]:
    with (
        serving_library(photos, policy=photos.parent / "policy.yaml") as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


def search(api: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    answer = api.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def check(found: list[dict[str, Any]], expected: list[Hit]) -> None:
    assert [hit["id"] for hit in found] == [hit.id for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def id_of(api: httpx.Client, path: str, number: int = 0) -> str:
    items = api.get("/v1/items", params={"path": path}).json()["data"]
    return str(items[number]["id"])


def test_hits_are_those_of_the_library(api: httpx.Client, photos: Path, model: midsight.Perception) -> None:
    cat, rocket = (DEMO / "cat.jpg").read_bytes(), (DEMO / "rocket.jpg").read_bytes()
    with Library(photos) as library:
        first = library.search(Query(texts=("a rocket",)), model)[0]
        check(search(api, input="a zeppelin", top=7), library.search(Query(texts=("a zeppelin",), top=7), model))
        check(search(api, input=data_url(cat, "image/jpeg")), library.search(Query(images=(cat,), top=20), model))
        check(search(api, similar_to=[first.id], top=3), library.search(Query(rows=(first.id,), top=3)))
        where = Filter(("old/*",), ("image",), after=1_600_043_200)
        body = {"paths": ["old/*"], "kinds": ["image"], "after": "2020-09-14T00:26:40Z", "before": "2100-01-01"}
        check(search(api, input="a cat", **body), library.search(Query(texts=("a cat",), where=where, top=20), model))
        mixture = Query(
            texts=("a vehicle",), images=(rocket,), rows=(first.id,), weights=(1, 0.5, 0.25), words="",
            without_texts=("night",), without_images=(cat,),
        )  # fmt: skip
        found = search(
            api, input=["a vehicle", data_url(rocket, "image/jpeg")], similar_to=[first.id], weights=[1, 0.5, 0.25],
            without=["night", data_url(cat, "image/jpeg")], words=False, top=10,
        )  # fmt: skip
        check(found, library.search(mixture, model))


def test_a_hit_has_its_place(api: httpx.Client) -> None:
    temple = search(api, input="a temple above a lake", kinds=["video"])
    assert {hit["start"] for hit in temple} == {0.0, 2.0, 4.0}
    page = search(api, input="zeppelins", kinds=["page"], top=1)[0]
    assert (page["path"], page["page"]) == ("report.pdf", 2)
    assert "zeppelins" in page["text"]
    assert "file" not in page


def test_uploads_with_fields(api: httpx.Client) -> None:
    files = [("file", (DEMO / "cat.jpg").read_bytes())]
    answer = api.post("/v1/search", data={"kinds": ["image"], "top": "2", "without": ["a dog"]}, files=files)
    assert answer.status_code == 200, answer.text
    assert [hit["path"] for hit in answer.json()["data"]][0] == "old/cat.jpg"
    assert len(answer.json()["data"]) == 2
    other = api.post("/v1/search", data={"top": "2"}, files=files, headers={"Origin": "http://example.org"})
    assert other.status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        ({}, 400, "input", "nothing to look for"),
        ({"input": ["a"], "weights": [1, 2]}, 400, "weights", "2 weights for 1 examples"),
        ({"similar_to": [NOBODY]}, 404, None, "has no item"),
        ({"similar_to": ["../x"]}, 400, "similar_to.0", "pattern"),
        ({"input": "a", "kinds": ["sound"]}, 400, "kinds.0", "'image', 'video' or 'page'"),
        ({"input": "a", "top": 100_000}, 400, "top", "less than or equal to 1000"),
        ({"input": "a", "after": "never"}, 400, "after", "expected a date as 2024-05-01"),
        ({"input": "a", "after": 1.5}, 400, "after", "expected a date as 2024-05-01"),
        ({"input": "a", "before": "2024-13-01"}, 400, "before", "month value"),
        ({"input": "a", "without": "a", "words": False}, 400, None, "cancel each other"),
        ({"input": "a", "without": [" "]}, 400, "without.0", "empty"),
        ({"input": "a", "model": "other"}, 404, "model", "there is no 'other'"),
        ({"input": "a", "colour": "red"}, 400, "colour", "Extra inputs"),
        ({"input": {"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}}, 400, None, "address"),
    ],
)
def test_questions_that_cannot_be(
    api: httpx.Client, body: dict[str, Any], status: int, param: str | None, message: str
) -> None:
    answer = api.post("/v1/search", json=body)
    assert (answer.status_code, message in answer.text) == (status, True), answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_items_are_listed_newest_first(api: httpx.Client) -> None:
    whole = api.get("/v1/items").json()
    assert whole["total"] == 9
    paths = [item["path"] for item in whole["data"]]
    assert paths == ["report.pdf"] * 2 + ["temple.mp4"] * 3 + [
        "rocket.jpg",
        "motorcycle.jpg",
        "old/coffee.jpg",
        "old/cat.jpg",
    ]
    assert [item["start"] for item in whole["data"][2:5]] == [0.0, 2.0, 4.0]
    part = api.get("/v1/items", params={"offset": 3, "limit": 2}).json()
    assert (part["total"], part["data"]) == (9, whole["data"][3:5])
    few = api.get("/v1/items", params={"kind": ["image"], "path": "old/*", "before": "2020-09-14T00:00:00Z"}).json()
    assert [item["path"] for item in few["data"]] == ["old/cat.jpg"]
    assert api.get("/v1/items", params={"limit": 0}).json()["error"]["param"] == "limit"


def test_thumbnails_are_made_once(api: httpx.Client, photos: Path) -> None:
    for path in ("old/cat.jpg", "temple.mp4", "report.pdf"):
        address = f"/v1/items/{id_of(api, path)}/thumbnail"
        answer = api.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.headers["x-content-type-options"] == "nosniff"
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert (picture.format, max(picture.size)) == ("WEBP", 320)
        assert api.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        name = answer.headers["etag"].strip('"')
        kept = photos / ".midsight" / "thumbnails" / name[:2] / f"{name}.webp"
        assert kept.read_bytes() == answer.content
        kept.write_bytes(b"kept")
        assert api.get(address).content == b"kept"


def test_thumbnails_have_a_limit_and_do_without_a_folder(tmp_path: Path, photos: Path) -> None:
    with Library(photos) as library:
        hits = library.search_vector(Query(rows=("x",), top=9), library.embedding(_any(library)))
    small = Thumbnails(tmp_path / "small", most_bytes=20_000)
    for hit in hits:
        assert small.get(hit)[0][:4] == b"RIFF"
        assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*/*")) <= 20_000
    small.close()
    (tmp_path / "file").write_text("")
    unkept = Thumbnails(tmp_path / "file" / "below")
    assert unkept.get(hits[0])[0][:4] == b"RIFF"
    unkept.close()


def _any(library: Library) -> str:
    return str(next(iter(library.store.scan(["id"]))).column("id")[0])


def test_files_come_whole_and_in_parts(api: httpx.Client, photos: Path) -> None:
    data = (photos / "temple.mp4").read_bytes()
    address = f"/v1/items/{id_of(api, 'temple.mp4')}/media"
    whole = api.get(address)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, data, "video/mp4")
    assert "sandbox" in whole.headers["content-security-policy"]
    part = api.get(address, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, data[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(data)}"
    assert api.get(address, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    assert api.head(address).headers["content-length"] == str(len(data))
    assert api.get(f"/v1/items/{id_of(api, 'report.pdf')}/media").headers["content-type"] == "application/pdf"


def test_only_files_of_the_index_come(tmp_path: Path, tiny_folder: Path, tiny_model: midsight.Perception) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for n, name in enumerate(("gone.png", "link.png", "odd.tiff")):
        (root / name).write_bytes(file(n, "tiff" if name == "odd.tiff" else "png"))
    make_index(tiny_model, root)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "page.svg").write_text("<svg/>")
    index = root / ".midsight"
    about = json.loads((index / "g0001" / "about.json").read_text())
    (index / "g0001" / "about.json").write_text(json.dumps({**about, "load": str(tiny_folder)}))
    with serving_library(root) as address, httpx.Client(base_url=address) as api:
        ids = {item["path"]: item["id"] for item in api.get("/v1/items").json()["data"]}
        assert set(ids) == {"gone.png", "link.png", "odd.tiff"}
        (root / "gone.png").unlink()
        (root / "link.png").unlink()
        (root / "link.png").symlink_to(tmp_path / "secret.png")
        for name in ("gone.png", "link.png"):
            for what in ("media", "thumbnail"):
                answer = api.get(f"/v1/items/{ids[name]}/{what}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_gone")
        (root / "odd.tiff").write_text("<script>alert(1)</script>")
        odd = api.get(f"/v1/items/{ids['odd.tiff']}/media")
        assert odd.headers["content-type"] == "application/octet-stream"
        assert odd.headers["content-disposition"].startswith("attachment")
        for path in ("..%2f..%2fsecret.png", "link.png", NOBODY, "page.svg", f"{NOBODY}/../../page.svg"):
            assert api.get(f"/v1/items/{path}/media").status_code in (400, 404)


def test_verdicts_are_those_of_a_moderator(api: httpx.Client, photos: Path, model: midsight.Perception) -> None:
    moderator = Moderator(model, read_policy(photos.parent / "policy.yaml"))
    sent = [DEMO / "cat.jpg", DEMO / "temple.mp4"]
    answer = api.post("/v1/moderate", files=[("file", path.read_bytes()) for path in sent])
    assert answer.status_code == 200, answer.text
    for entry, expected in zip(answer.json()["data"], moderator.verdicts(sent), strict=True):
        record = json.loads(json.dumps(expected.record()))
        assert entry["verdict"] == record["verdict"]
        for finding, known in zip(entry["findings"], record["findings"], strict=True):
            assert finding.pop("score") == pytest.approx(known.pop("score"), abs=1e-4)
            assert finding == known
    assert api.post("/v1/moderate", json={"input": "a text"}).status_code == 400
    assert api.post("/v1/moderate", json={"input": data_url(b"\xff\xd8\xff")}).status_code == 400


def test_a_method_that_is_not_there_names_those_that_are(api: httpx.Client) -> None:
    answer = api.delete("/v1/reviews")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert api.get("/v1/items", params={"before": "0.5"}).status_code == 400


def test_decisions_are_kept(api: httpx.Client, photos: Path) -> None:
    kept = photos / ".midsight" / "decisions.jsonl"
    questions = api.get("/v1/reviews").json()["data"]
    assert [(one["path"], one["category"], one["verdict"]) for one in questions[:1]] == [
        ("old/cat.jpg", "animals", "flag")
    ]
    assert {one["verdict"] for one in questions} == {"flag", "review"}
    body = {"id": questions[0]["id"], "category": "animals", "decision": "yes"}
    assert api.post("/v1/reviews", json=body).status_code == 200
    assert read_decisions(kept) == {photos / "old" / "cat.jpg": {"animals": True}}
    assert api.get("/v1/reviews").json()["data"][0]["decision"] == "yes"
    assert api.post("/v1/reviews", json={**body, "decision": None}).status_code == 200
    assert read_decisions(kept) == {}
    for wrong, status in (({"category": "plants"}, 400), ({"decision": "maybe"}, 400), ({"id": NOBODY}, 404)):
        assert api.post("/v1/reviews", json={**body, **wrong}).status_code == status
    assert api.post("/v1/reviews", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_keys_and_passes(photos: Path) -> None:
    with serving_library(photos, keys=["key"]) as address, httpx.Client(base_url=address) as api:
        for path in ("/", "/page/app.js", "/page/style.css"):
            answer = api.get(path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert api.get("/page/nothing.js").status_code == 404
        for path in ("/v1/page", "/v1/items", "/v1/reviews"):
            assert api.get(path).status_code == 401
        assert api.post("/v1/search", json={"input": "a"}).status_code == 401
        key = {"Authorization": "Bearer key"}
        access = api.get("/v1/page", headers=key).json()["access"]
        item = api.get("/v1/items", headers=key).json()["data"][0]["id"]
        assert api.get(f"/v1/items/{item}/thumbnail").status_code == 401
        assert api.get(f"/v1/items/{item}/thumbnail", params={"pass": access}).status_code == 200
        assert api.get("/v1/items", params={"pass": access}).status_code == 401
        for wrong in (make_pass(-1), "1" + access, access[:-1], "", "9" * 12 + ".é"):
            assert api.get(f"/v1/items/{item}/media", params={"pass": wrong}).status_code == 401


def test_another_model_is_refused(photos: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is another model.*--reembed"):
        open_services(Wanted(str(tiny_folder), device="cpu", index=photos), Metrics())
    with pytest.raises(InputError, match="no index is there"):
        open_services(Wanted(device="cpu", index=tmp_path), Metrics())
    calibrated = "\ncalibration: {model: other, identity: abc, files: 50}\n"
    (tmp_path / "policy.yaml").write_text(POLICY + calibrated)
    with pytest.raises(ConfigError, match="calibrated with other"):
        open_services(Wanted(device="cpu", policy=tmp_path / "policy.yaml"), Metrics())


def test_an_index_that_is_made_anew_by_another_model(tmp_path: Path, photos: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    with serving_library(root) as address, httpx.Client(base_url=address) as api:
        assert len(search(api, input="a cat", top=1)) == 1
        index = root / ".midsight"
        shutil.copytree(index / "g0001", index / "g0002")
        about = json.loads((index / "g0002" / "about.json").read_text())
        (index / "g0002" / "about.json").write_text(json.dumps({**about, "identity": "f" * 64}))
        manifest = json.loads((index / "index.json").read_text())
        (index / "new").write_text(json.dumps({**manifest, "generation": "g0002"}))
        os.replace(index / "new", index / "index.json")
        answer = api.post("/v1/search", json={"input": "a cat"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "index_changed")


def test_the_description_has_the_endpoints(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    for path in ("/v1/search", "/v1/items", "/v1/items/{id}/media", "/v1/moderate", "/v1/reviews", "/v1/page"):
        assert path in paths
    example = paths["/v1/search"]["post"]["requestBody"]["content"]["application/json"]["examples"]["mixture"]["value"]
    assert search(api, **example)[0]["path"] == "rocket.jpg"


def test_many_ask_at_once(api: httpx.Client) -> None:
    expected = [hit["id"] for hit in search(api, input="a cat")]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [hit["id"] for hit in search(api, input="a cat")], range(24)))
    assert found == [expected] * 24
