"""`midsight serve`: answers over HTTP."""

import contextlib
import ipaddress
import logging
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.serve.services import Wanted

BACKLOG = 2048  # connections that may wait to be taken


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Encoder: published name, folder, checkpoint file or Hugging Face repository. Default: the embedded "
            "model.",
            show_default=False,
        ),
    ] = None,
    plm: Annotated[
        str | None,
        typer.Option(
            "--plm",
            help="Answer questions, too: folder or Hugging Face repository of a PerceptionLM, or SmolLM2-135M-Instruct "
            "for the packaged language model, which reads text only.",
            show_default=False,
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            help="Indexed folder, or its index: search it, with a page at /. The model is then the index's own.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", help="Moderation policy: verdicts on what is sent, review of the index.", show_default=False
        ),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(
            "--decisions", help="JSONL file of review. Default: decisions.jsonl in the index.", show_default=False
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Search the shipped pictures and clip.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key",
            help="Key that requests must bring; may be repeated. Better in MIDSIGHT_API_KEYS, separated by commas.",
            show_default=False,
        ),
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option("--max-body-bytes", min=1, help="Of a request. Default: 32 MiB.", show_default=False)
    ] = None,
    max_image_bytes: Annotated[
        int | None, typer.Option("--max-image-bytes", min=1, help="Of a picture. Default: 10 MiB.", show_default=False)
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", min=1, help="Of a picture. Default: 50 million.", show_default=False)
    ] = None,
    max_media: Annotated[
        int | None,
        typer.Option(
            "--max-media",
            min=1,
            help="Pictures and texts of a request. Default: 256, of a conversation 8 pictures.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            "--queue",
            min=1,
            help="Requests that may wait; more are told to come later. Default: 128, of questions 8.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.1, help="Seconds of a request. Default: 30, of questions 300.", show_default=False
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="HOST",
            help="Host that pictures may be fetched from; may be repeated. Default: no address is fetched. Private "
            "addresses never are.",
            show_default=False,
        ),
    ] = None,
    unload_after: Annotated[
        float | None,
        typer.Option(
            "--unload-after",
            min=0.1,
            help="Seconds without a request after which the encoder leaves the memory, until the next one.",
            show_default=False,
        ),
    ] = None,
    pages: Annotated[
        int | None,
        typer.Option(
            "--pages", min=0, help="Last pages that are kept, not to be read again. Default: 4.", show_default=False
        ),
    ] = None,
    grace: Annotated[float, typer.Option("--grace", min=1, help="Seconds that answers may take at the end.")] = 30.0,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="fp32 or bf16; auto is fp32 on a CPU and as stored elsewhere.")
    ] = "auto",
    threads: options.Threads = None,
) -> None:
    """Serve embeddings and classification of pictures, videos and texts over HTTP, in the words of OpenAI's API.

    Pictures come in the request, as data: URLs or uploads. Requests are joined to batches, and logged to stderr, one
    line of JSON each, without contents. SIGTERM and Ctrl-C finish what is being answered. With --plm, questions about
    pictures and texts are answered, too.

    With --index, what is in a folder is searched, over HTTP and on a page.

    Example: midsight serve PE-Core-L14-336 --port 8000

    Example: midsight serve --index photos
    """
    from midsight.serve import create_app, find_keys
    from midsight.serve.metrics import Metrics
    from midsight.serve.run import bind, server
    from midsight.serve.services import Wanted, open_services

    given = {
        "max_body_bytes": max_body_bytes,
        "max_image_bytes": max_image_bytes,
        "max_pixels": max_pixels,
        "max_media": max_media,
        "queue": queue,
        "timeout": timeout,
        "pages": pages,
    }
    wanted = Wanted(
        model, plm, revision, device, dtype, threads, batch_size, tuple(allow_host or ()), unload_after,
        limits={name: value for name, value in given.items() if value is not None},
        index=index, policy=policy, decisions=decisions,
    )  # fmt: skip
    if decisions is not None and (policy is None or (index is None and not demo)):
        raise InputError("--decisions keeps what is said in review, which needs --index and --policy")
    keys, metrics = find_keys(api_key or ()), Metrics()
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(bind(host, port))
        if demo:
            wanted = replace(wanted, index=_demo(stack, wanted))
        with show.status(f"loading {model or 'the model'}"):
            services = open_services(wanted, metrics)
        app = create_app(services, keys, metrics)
        _start_log()
        socket.listen(BACKLOG)  # who reads the next line may connect at once
        at = f"[{host}]" if ":" in host else host
        names = " and ".join(name for service in services for name in service.names)
        show.note(f"serving {names} at http://{at}:{socket.getsockname()[1]}/v1")
        if wanted.index is not None:
            show.note(f"search it in a browser: http://{at}:{socket.getsockname()[1]}/")
        if not keys and not _is_local(host):
            show.warn("no API key: everyone who reaches this address can ask; set MIDSIGHT_API_KEYS")
        server(app, grace).run(sockets=[socket])


def _demo(stack: contextlib.ExitStack, wanted: "Wanted") -> Path:
    """An index of the shipped media, gone at the end."""
    from midsight.cli.demo import ASSETS
    from midsight.library.index import Indexer

    if wanted.index is not None:
        raise InputError("--demo has an index of its own; leave out --index")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or the folder would stay
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="midsight-demo-"))) / "index"
    with show.status("indexing the shipped pictures"):
        model = options.open_model(wanted.model, wanted.device, wanted.dtype, threads=wanted.threads)
        with Indexer(model, ASSETS, folder, decoder=None) as indexer:
            for _ in indexer.run():
                pass
    return folder


def _start_log() -> None:
    """The requests' lines, and what the server itself complains about, to stderr."""
    from midsight.serve.log import LineHandler

    handler = LineHandler(sys.stderr)
    for name, level in (("midsight.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
