"""`midsight serve`: answers over HTTP."""

import ipaddress
import logging
import sys
from typing import Annotated, Any

import typer

from midsight.cli import options, show


def serve(
    plm: Annotated[
        str | None,
        typer.Option(
            "--plm",
            help="Folder or Hugging Face repository of a PerceptionLM. Default: a small language model without "
            "pictures.",
            show_default=False,
        ),
    ] = None,
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
        typer.Option("--max-media", min=1, help="Pictures of a conversation. Default: 8.", show_default=False),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            "--queue",
            min=0,
            help="Requests that may wait; more are told to come later. Default: 8.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Seconds of a request. Default: 300.", show_default=False)
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
    """Serve chat completions about pictures and texts, in the words of OpenAI's API.

    Pictures come in the request, as data: URLs; no address is ever fetched. Requests are logged to stderr, one line of
    JSON each, without contents. SIGTERM and Ctrl-C finish the answer that is being given.

    Example: midsight serve --plm facebook/Perception-LM-1B
    """
    from midsight.api.loading import fixed_threads
    from midsight.serve import ChatService, ServeLimits, create_app, find_keys
    from midsight.serve.models import open_chat_model
    from midsight.serve.run import bind, server

    given = {
        "max_body_bytes": max_body_bytes,
        "max_image_bytes": max_image_bytes,
        "max_pixels": max_pixels,
        "max_media": max_media,
        "queue": queue,
        "timeout": timeout,
        "pages": pages,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    limits = ServeLimits(**chosen)
    keys = find_keys(api_key or ())
    with bind(host, port) as socket:
        with show.status(f"loading {plm or 'the packaged language model'}"):
            model, name = open_chat_model(plm, device, dtype, revision)
        app = create_app([ChatService(model, name, limits, fixed_threads(threads))], keys)
        _start_log()
        socket.listen()  # who reads the next line may connect at once
        at = f"[{host}]" if ":" in host else host
        show.note(f"serving {name} at http://{at}:{socket.getsockname()[1]}/v1")
        if not keys and not _is_local(host):
            show.warn("no API key: everyone who reaches this address can ask; set MIDSIGHT_API_KEYS")
        server(app, grace).run(sockets=[socket])


def _start_log() -> None:
    """The requests' lines, and what the server itself complains about, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    for name, level in (("midsight.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
