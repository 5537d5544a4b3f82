"""What one server offers: the list of its services, opened from the words of a command line.

A further service is one more entry of the list in `open_services`; it gets the encoder, and with it the batches, the
limits and the queue that all share. An index adds search and the page, a policy moderation, both together review.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from midsight.api.loading import fixed_threads, load
from midsight.errors import ConfigError
from midsight.serve.app import Service
from midsight.serve.chat import ChatService
from midsight.serve.classify import ClassifyService
from midsight.serve.embeddings import EmbeddingService
from midsight.serve.encoder import Encoder
from midsight.serve.fetch import Fetcher
from midsight.serve.limits import EncoderLimits, ServeLimits
from midsight.serve.metrics import Metrics
from midsight.serve.models import open_chat_model

if TYPE_CHECKING:
    from midsight.library.index.manifest import About
    from midsight.library.moderate import Policy

L = TypeVar("L")


@dataclass(frozen=True)
class Wanted:
    """What is to be served."""

    model: str | None = None  # the encoder, as `midsight.load` takes it
    plm: str | None = None  # a PerceptionLM beside it
    revision: str | None = None  # of the one that is named
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    allow_hosts: tuple[str, ...] = ()
    unload_after: float | None = None  # seconds
    limits: Mapping[str, Any] = field(default_factory=dict)  # fields of ServeLimits and EncoderLimits
    index: Path | None = None  # that is searched
    policy: Path | None = None  # by which is moderated
    decisions: Path | None = None  # of people; None is beside the index's rows


def open_services(wanted: Wanted, metrics: Metrics) -> list[Service]:
    """The services that are wanted, with their models loaded.

    Raises:
        MidsightError: a model cannot be loaded, or a limit cannot be.
    """
    encoder_limits = _limits(EncoderLimits, wanted.limits, {"max_media": "max_inputs"})
    chat_limits = _limits(ServeLimits, wanted.limits)
    for host in wanted.allow_hosts:
        if not host or "/" in host or "@" in host:
            raise ConfigError(f"--allow-host takes a name such as images.example.org, got {host!r}")

    how = _how(wanted)
    policy = None if wanted.policy is None else _policy(wanted.policy)
    rules: list[Any] = []

    def load_encoder() -> Any:
        model = load(
            how.load,
            wanted.device,
            wanted.dtype,  # type: ignore[arg-type]  # load says what is allowed
            how.layer,
            revision=how.revision,
            image_size=how.image_size,
            threads=wanted.threads,
        )
        if policy is not None and not rules:
            rules.append(_rules(model, policy))
        return model

    fetcher = Fetcher(tuple(host.lower() for host in wanted.allow_hosts))
    encoder = Encoder(load_encoder, encoder_limits, fetcher, wanted.unload_after, metrics, wanted.batch_size)
    services: list[Service] = [EmbeddingService(encoder)]
    if encoder.about.context_length is not None:
        services.append(ClassifyService(encoder))
    services += _library(wanted, encoder, rules[0] if rules else None)
    if wanted.plm is not None:
        revision = wanted.revision if wanted.model is None else None
        plm, name = open_chat_model(wanted.plm, wanted.device, wanted.dtype, revision)
        services.append(ChatService(plm, name, chat_limits, fixed_threads(wanted.threads)))
    return services


def _how(wanted: Wanted) -> "About":
    """How the encoder is opened: as named, else as the index's was."""
    from midsight.library.index.manifest import About

    if wanted.index is not None and wanted.model is None:
        from midsight.library.index import Library

        with Library(wanted.index) as library:
            return library.about
    return About("", "", 0, load=wanted.model, revision=None if wanted.model is None else wanted.revision)


def _policy(path: Path) -> "Policy":
    from midsight.library.moderate import read_policy

    return read_policy(path)


def _rules(model: Any, policy: "Policy") -> Any:
    from midsight.library.moderate.job import check_calibration
    from midsight.library.moderate.scores import Scorer
    from midsight.serve.moderate import Rules

    check_calibration(model, policy)
    return Rules(policy, Scorer(model, policy))


def _library(wanted: Wanted, encoder: Encoder, rules: Any) -> list[Service]:
    """What an index and a policy add."""
    from midsight.serve.moderate import ModerateService

    services: list[Service] = [] if rules is None else [ModerateService(encoder, rules)]
    if wanted.index is None:
        return services
    from midsight.serve.collection import Collection
    from midsight.serve.front import PageService
    from midsight.serve.items import ItemService
    from midsight.serve.review import Decisions, ReviewService
    from midsight.serve.search import SearchService
    from midsight.serve.thumbnails import Thumbnails

    collection = Collection(wanted.index, encoder.about, encoder.limits.timeout)
    services += [
        SearchService(encoder, collection),
        ItemService(collection, Thumbnails(collection.folder / "thumbnails")),
        PageService(encoder, collection, rules),
    ]
    if rules is not None:
        decisions = Decisions(wanted.decisions or collection.folder / "decisions.jsonl")
        services.append(ReviewService(collection, rules, decisions))
    return services


def _limits(kind: type[L], given: Mapping[str, Any], renamed: Mapping[str, str] = {}) -> L:  # noqa: B006 (not changed)
    """Limits of a kind: those of the given ones that it has."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    named = {renamed.get(name, name): value for name, value in given.items()}
    return kind(**{name: value for name, value in named.items() if name in known})
