"""What one server offers: the list of its services, opened from the words of a command line.

A further service (search, moderation, a page) is one more entry of the list in `open_services`; it gets the encoder,
and with it the batches, the limits and the queue that all share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

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

    def load_encoder() -> Any:
        return load(
            wanted.model,
            wanted.device,
            wanted.dtype,  # type: ignore[arg-type]  # load says what is allowed
            revision=None if wanted.model is None else wanted.revision,
            threads=wanted.threads,
        )

    fetcher = Fetcher(tuple(host.lower() for host in wanted.allow_hosts))
    encoder = Encoder(load_encoder, encoder_limits, fetcher, wanted.unload_after, metrics, wanted.batch_size)
    services: list[Service] = [EmbeddingService(encoder)]
    if encoder.about.context_length is not None:
        services.append(ClassifyService(encoder))
    if wanted.plm is not None:
        revision = wanted.revision if wanted.model is None else None
        plm, name = open_chat_model(wanted.plm, wanted.device, wanted.dtype, revision)
        services.append(ChatService(plm, name, chat_limits, fixed_threads(wanted.threads)))
    return services


def _limits(kind: type[L], given: Mapping[str, Any], renamed: Mapping[str, str] = {}) -> L:  # noqa: B006 (not changed)
    """Limits of a kind: those of the given ones that it has."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    named = {renamed.get(name, name): value for name, value in given.items()}
    return kind(**{name: value for name, value in named.items() if name in known})
