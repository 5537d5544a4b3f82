"""A server on a free port in a thread, the official client for it, pictures as `data:` URLs."""

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from fastapi import FastAPI
from openai import OpenAI
from PIL import Image

import midsight
from midsight.plm import PLM
from midsight.serve import (
    ChatService,
    ClassifyService,
    EmbeddingService,
    Encoder,
    EncoderLimits,
    ServeLimits,
    create_app,
)
from midsight.serve.run import bind, server

NAME = "tiny"


@contextlib.contextmanager
def serving(
    model: PLM,
    limits: ServeLimits = ServeLimits(),  # noqa: B008
    keys: Sequence[str] = (),
    decoder: Sequence[str] | None = None,
) -> Iterator[str]:
    """The address of a chat server, for the time of the block; it decodes in its own process."""
    with serving_app(create_app([ChatService(model, NAME, limits, threads=1, decoder=decoder)], keys)) as address:
        yield address


@contextlib.contextmanager
def serving_encoder(folder: Path, limits: EncoderLimits = EncoderLimits(), **options: Any) -> Iterator["Served"]:  # noqa: B008
    """A server of a saved encoder, for the time of the block; options are an Encoder's.

    It decodes in its own process: starting others takes longer than most tests.
    """
    options = {"decoder": None, **options}
    encoder = Encoder(lambda: midsight.load(folder, device="cpu", threads=1), limits, **options)
    services = [EmbeddingService(encoder)]
    app = create_app([*services, *([ClassifyService(encoder)] if encoder.about.context_length else [])])
    with serving_app(app) as address:
        yield Served(address, encoder)


@dataclass(frozen=True)
class Served:
    """An encoder behind an address."""

    address: str
    encoder: Encoder

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def post(self, body: Any, path: str = "/v1/embeddings", **more: Any) -> tuple[int, Any, Any]:
        """As `post`; the model is named where the body does not name one."""
        named = {"model": self.encoder.about.name, **body} if isinstance(body, dict) else body
        return post(self.address, named, path=path, **more)

    def embed(self, *inputs: Any, **more: Any) -> Any:
        """Embeddings (N, D) of an answer that must be one."""
        status, body, _ = self.post({"input": list(inputs), **more})
        assert status == 200, body
        return np.array([entry["embedding"] for entry in body["data"]], np.float32)


@contextlib.contextmanager
def serving_app(app: FastAPI) -> Iterator[str]:
    """The address of an application, for the time of the block."""
    with bind("127.0.0.1", 0) as socket:
        running = server(app, grace=2)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [socket]})
        thread.start()
        until(lambda: running.started)
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def until(true: Any, seconds: float = 20) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def client(address: str, key: str = "none", **options: Any) -> OpenAI:
    """The official client, without second tries."""
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60, **options)


def pixels(seed: int, height: int = 60, width: int = 90) -> Any:
    """A picture of coloured blocks, uint8 (height, width, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST))


def file(seed: int, kind: str = "png", **size: int) -> bytes:
    """The same as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, **size)).save(buffer, kind)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image(url: str, **more: str) -> dict[str, Any]:
    """A picture of a message."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text(text: str) -> dict[str, Any]:
    """A text of a message."""
    return {"type": "text", "text": text}


def user(*parts: dict[str, Any]) -> Any:
    return {"role": "user", "content": list(parts)}


def asked(question: str = "What?", **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": NAME, "messages": [{"role": "user", "content": question}], "max_tokens": 4, **more}


def post(
    address: str, body: Any, headers: dict[str, str] | None = None, path: str = "/v1/chat/completions"
) -> tuple[int, Any, Any]:
    """Status, body and headers of an answer; the body may be bytes that are no JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(f"{address}{path}", data, {"Content-Type": "application/json", **(headers or {})})
    return _opened(request)


def get(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    return _opened(Request(f"{address}{path}", headers=headers or {}))


def _opened(request: Request) -> tuple[int, Any, Any]:
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers
