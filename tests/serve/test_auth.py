"""Keys: who may ask."""

import hmac

import openai
import pytest

from midsight.errors import ConfigError
from midsight.plm import PLM
from midsight.serve import ServeLimits, find_keys
from tests.serve import server
from tests.serve.server import asked, client, get, post


def test_only_requests_with_a_key_are_answered(plm: PLM, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(b) or real(a, b))
    with server.serving(plm, keys=["first", "zwölf"]) as address:
        assert [model.id for model in client(address, "first").models.list()] == [server.NAME]
        assert len(compared) == 2  # all keys are, also behind the right one
        with pytest.raises(openai.AuthenticationError) as caught:
            client(address, "firs").models.list()
        assert caught.value.code == "invalid_api_key"
        assert get(address, "/v1/models", {"Authorization": b"Bearer zw\xc3\xb6lf"})[0] == 200  # type: ignore[dict-item]
        for header in ("first", "Basic first", "Bearer", "Bearer ", "Bearer first first", "Bearer FIRST"):
            status, body, headers = post(address, asked(), {"Authorization": header})
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert headers["WWW-Authenticate"] == "Bearer"
        assert get(address, "/nothing")[0] == 401
        assert get(address, "/health")[0] == get(address, "/ready")[0] == 200
        assert post(address, asked(), {"Authorization": "bearer first"})[0] == 200


def test_a_body_without_a_key_is_not_read(plm: PLM) -> None:
    with server.serving(plm, ServeLimits(max_body_bytes=10), keys=["key"]) as address:
        assert post(address, asked("a" * 1000))[0] == 401
        assert post(address, asked("a" * 1000), {"Authorization": "Bearer key"})[0] == 413


def test_where_keys_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIDSIGHT_API_KEYS", raising=False)
    assert find_keys() == ()
    assert find_keys(["a", "b", "a"]) == ("a", "b")
    monkeypatch.setenv("MIDSIGHT_API_KEYS", "c, a,")
    assert find_keys(["a"]) == ("a", "c")
    with pytest.raises(ConfigError, match="is empty"):
        find_keys([" "])
    monkeypatch.setenv("MIDSIGHT_API_KEYS", " , ")
    with pytest.raises(ConfigError, match="holds no key"):
        find_keys()


@pytest.mark.parametrize(
    ("given", "message"),
    [({"max_media": 0}, "max_media"), ({"queue": -1}, "queue"), ({"timeout": 0}, "timeout"), ({"pages": -1}, "pages")],
)
def test_limits_that_cannot_be(given: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServeLimits(**given)
