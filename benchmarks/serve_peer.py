"""What one would write in ten minutes: a FastAPI handler that calls the model once a request; `serve.py` times it."""

import base64
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

import midsight
from midsight.serve.run import bind


def make() -> FastAPI:
    """One endpoint, the same model, no batches, no queue, no limits."""
    app = FastAPI()
    model = midsight.load(device="cpu")
    model.texts_kept = 1024

    @app.post("/v1/embeddings")
    def embed(body: dict[str, Any]) -> dict[str, Any]:
        data = []
        for index, entry in enumerate(body["input"]):
            if entry.startswith("data:"):
                row = model.embed_images(base64.b64decode(entry.partition(",")[2]))[0]
            else:
                row = model.embed_texts(entry)[0]
            data.append({"object": "embedding", "index": index, "embedding": base64.b64encode(row.tobytes()).decode()})
        return {"object": "list", "data": data, "model": body["model"], "usage": {}}

    return app


def main() -> None:
    """Serve it on a free port."""
    with bind("127.0.0.1", 0) as socket:
        app = make()
        socket.listen(2048)
        print(f"serving at http://127.0.0.1:{socket.getsockname()[1]}/v1", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[socket])


if __name__ == "__main__":
    main()
