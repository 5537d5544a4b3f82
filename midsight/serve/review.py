"""`/v1/reviews`: what in the index is flagged or for a person to look at, and what people decided.

Scores come from the embeddings that the index has, so nothing is read or encoded again. Decisions are lines of a JSONL
file, as `midsight moderate calibrate` reads them.
"""

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from midsight.errors import OutputError
from midsight.files import atomic_write
from midsight.library.index import Library
from midsight.library.moderate.labels import read_decisions
from midsight.library.moderate.verdicts import WORDS, Clip, judge
from midsight.library.stores.base import Filter
from midsight.serve.collection import Collection
from midsight.serve.errors import ApiError
from midsight.serve.limits import read_json_body
from midsight.serve.log import LOGGER
from midsight.serve.moderate import Rules
from midsight.serve.openapi import ErrorBody
from midsight.serve.schema import field_errors
from midsight.serve.search import ID

MOST = 1000  # questions of one answer: the gravest
FRESH = 60.0  # seconds that the scores of the index count as new
BODY = 64 << 10  # bytes
FILES_AT_ONCE = 200  # of one look into the store
COLUMNS = ("id", "file", "path", "kind", "start", "end", "page", "width", "height", "embedding")
Decision = Literal["yes", "no"]


class DecisionRequest(BaseModel):
    """What a person says of one item and one category."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, Field(pattern=ID)]
    category: str
    decision: Decision | None = Field(description="null takes it back.")


class Decisions:
    """A file of decisions, written anew and whole at each. Safe to use from several threads.

    Raises:
        InputError: the file is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Decision] = {}
        if path.exists():
            for file, known in read_decisions(path).items():
                self._known |= {(str(file), name): "yes" if yes else "no" for name, yes in known.items()}

    def get(self, file: str, category: str) -> Decision | None:
        """What was decided."""
        return self._known.get((file, category))

    def put(self, file: str, category: str, decision: Decision | None) -> None:
        """Keeps a decision, or takes it back.

        Raises:
            OutputError: it cannot be kept; what was there is.
        """
        with self._lock:
            known = {key: value for key, value in self._known.items() if key != (file, category)}
            if decision is not None:
                known[file, category] = decision
            with atomic_write(self.path) as target:
                for (path, name), value in known.items():
                    target.write(json.dumps({"path": path, "category": name, "decision": value}).encode() + b"\n")
            self._known = known


class ReviewService:
    """The endpoints of review.

    Args:
        collection: what is looked through.
        rules: for what.
        decisions: what people said.
    """

    names: Sequence[str] = ()
    ready = True

    def __init__(self, collection: Collection, rules: Rules, decisions: Decisions) -> None:
        self._collection, self._rules, self._decisions = collection, rules, decisions
        self._made, self._items = 0.0, list[dict[str, Any]]()
        self._lock = threading.Lock()

    def close(self) -> None:
        """No more work."""
        self._collection.close()

    def router(self) -> APIRouter:
        """The endpoints."""
        router = APIRouter()
        errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorBody} for code in (400, 404, 415, 503)}
        body = {"required": True, "content": {"application/json": {"schema": DecisionRequest.model_json_schema()}}}
        router.add_api_route("/v1/reviews", self.questions, methods=["GET"], responses=errors)
        router.add_api_route(
            "/v1/reviews", self.decide, methods=["POST"], responses=errors, openapi_extra={"requestBody": body}
        )
        return router

    async def questions(self) -> Response:
        """What is flagged or for review, the gravest first, with the decisions."""
        items = await self._collection.ask(self._questions)
        data = [{**item, "decision": self._decided(item)} for item in items[:MOST]]
        return JSONResponse({"object": "list", "total": len(items), "data": data})

    async def decide(self, request: Request) -> Response:
        """Keeps a decision."""
        body = await read_json_body(request, BODY)
        with field_errors():
            asked = DecisionRequest.model_validate_json(body)
        if asked.category not in self._rules.policy.names:
            names = ", ".join(self._rules.policy.names)
            raise ApiError(400, f"category: the policy has {names}", "invalid_value", "category")
        hit = await self._collection.hit(asked.id)
        await self._collection.ask(lambda _: self._keep(str(hit.file), asked))
        return JSONResponse({"object": "decision", **asked.model_dump()})

    def _keep(self, file: str, asked: DecisionRequest) -> None:
        try:
            self._decisions.put(file, asked.category, asked.decision)
        except OutputError as error:
            LOGGER.error("a decision could not be kept: %s", error)
            raise ApiError(503, "the decision could not be kept; the server's log says more", "not_kept") from None

    def _decided(self, item: dict[str, Any]) -> Decision | None:
        return self._decisions.get(os.path.join(self._collection.root, item["path"]), item["category"])

    def _questions(self, library: Library) -> list[dict[str, Any]]:
        with self._lock:  # one thread looks through the index, the other waits for what it finds
            if not self._made or time.monotonic() - self._made > FRESH:
                self._items = sorted(self._look(library), key=lambda it: (WORDS.index(it["verdict"]), -it["score"]))
                self._made = time.monotonic()
            return self._items

    def _look(self, library: Library) -> list[dict[str, Any]]:
        lowest = np.array([category.lowest for category in self._rules.policy.categories])
        asked: dict[str, None] = {}
        for batch in library.store.scan(("file", "embedding")):
            scores = self._rules.scorer.scores(_embeddings(batch, library.store.dim))  # N, C
            files = batch.column("file").to_pylist()
            asked |= dict.fromkeys(files[n] for n in np.flatnonzero((scores >= lowest).any(axis=1)))
        names = list(asked)
        groups = [tuple(names[at : at + FILES_AT_ONCE]) for at in range(0, len(names), FILES_AT_ONCE)]
        return [item for files in groups for item in self._judged(library, files)]

    def _judged(self, library: Library, files: tuple[str, ...]) -> list[dict[str, Any]]:
        """The questions about some files."""
        rows: dict[str, list[tuple[dict[str, Any], Clip]]] = {}
        for batch in library.store.scan(COLUMNS, Filter(files=files)):
            for row, embedding in zip(
                batch.select(COLUMNS[:-1]).to_pylist(), _embeddings(batch, library.store.dim), strict=True
            ):
                rows.setdefault(row["file"], []).append((row, self._rules.clip(embedding, row["start"], row["end"])))
        return [item for found in rows.values() for item in self._of_file(found)]

    def _of_file(self, found: list[tuple[dict[str, Any], Clip]]) -> list[dict[str, Any]]:
        found.sort(key=lambda entry: (entry[0]["start"] or 0, entry[0]["page"] or 0))
        verdict = judge(found[0][0]["path"], self._rules.policy.categories, [clip for _, clip in found])
        items = []
        for number, finding in enumerate(verdict.findings):
            if finding.verdict != "pass":
                best = max(found, key=lambda entry: entry[1].scores[number])[0]
                record = {key: value for key, value in best.items() if key != "file"}
                ranges = [{"start": one.start, "end": one.end, "score": one.score} for one in finding.ranges]
                items.append({
                    **record, "category": finding.category, "verdict": finding.verdict, "score": finding.score,
                    "threshold": finding.threshold, "by": finding.by, "ranges": ranges,
                })  # fmt: skip
        return items


def _embeddings(batch: Any, dim: int) -> Any:
    return batch.column("embedding").flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
