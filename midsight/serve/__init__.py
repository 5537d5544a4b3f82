"""HTTP servers of what midsight does, in the words of OpenAI's API.

encoder = Encoder(midsight.load)
app = create_app([EmbeddingService(encoder), ClassifyService(encoder)], keys=find_keys())

Names load on first use: the processes that decode (`child`) are of this package and need none of a server's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from midsight.errors import MissingDependencyError

if TYPE_CHECKING:
    from midsight.serve.app import Service, create_app
    from midsight.serve.auth import find_keys
    from midsight.serve.chat import ChatService
    from midsight.serve.classify import ClassifyService
    from midsight.serve.embeddings import EmbeddingService
    from midsight.serve.encoder import Encoder
    from midsight.serve.limits import EncoderLimits, ServeLimits

_NEEDED = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")
_NAMES = {
    "ChatService": "chat",
    "ClassifyService": "classify",
    "EmbeddingService": "embeddings",
    "Encoder": "encoder",
    "EncoderLimits": "limits",
    "ServeLimits": "limits",
    "Service": "app",
    "create_app": "app",
    "find_keys": "auth",
}

__all__ = [
    "ChatService",
    "ClassifyService",
    "EmbeddingService",
    "Encoder",
    "EncoderLimits",
    "ServeLimits",
    "Service",
    "create_app",
    "find_keys",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'midsight.serve' has no attribute {name!r}")
    try:
        for needed in _NEEDED:
            import_module(needed)
    except ImportError as error:
        raise MissingDependencyError(
            "a server needs fastapi, uvicorn, prometheus-client and python-multipart, and one of them is not "
            "installed: pip install 'midsight[serve]'"
        ) from error
    value = getattr(import_module(f"midsight.serve.{_NAMES[name]}"), name)
    globals()[name] = value  # the next use does not come here
    return value
