"""HTTP servers of what midsight does, in the words of OpenAI's API.

app = create_app([ChatService(PLM.from_pretrained(folder), "my-plm")], keys=find_keys())
"""

from midsight.errors import MissingDependencyError

try:
    import fastapi as _fastapi  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "a server needs fastapi and uvicorn, which are not installed: pip install 'midsight[serve]'"
    ) from error

from midsight.serve.app import Service, create_app
from midsight.serve.auth import find_keys
from midsight.serve.chat import ChatService
from midsight.serve.limits import ServeLimits

__all__ = ["ChatService", "ServeLimits", "Service", "create_app", "find_keys"]
