"""HTTP servers of what midsight does, in the words of OpenAI's API.

encoder = Encoder(midsight.load)
app = create_app([EmbeddingService(encoder), ClassifyService(encoder)], keys=find_keys())
"""

from midsight.errors import MissingDependencyError

try:
    import fastapi as _fastapi  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "a server needs fastapi, uvicorn, prometheus-client and python-multipart, and one of them is not installed: "
        "pip install 'midsight[serve]'"
    ) from error

from midsight.serve.app import Service, create_app
from midsight.serve.auth import find_keys
from midsight.serve.chat import ChatService
from midsight.serve.classify import ClassifyService
from midsight.serve.embeddings import EmbeddingService
from midsight.serve.encoder import Encoder
from midsight.serve.limits import EncoderLimits, ServeLimits

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
