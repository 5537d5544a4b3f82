"""Chat completions through the official client: the answers are those of an Answerer, whole and streamed."""

from dataclasses import replace
from typing import Any

import openai
import pytest

from midsight.plm import PLM, Sampling
from midsight.plm.answer import Answer, AnswerConfig, Answerer
from midsight.plm.media import MediaLimits
from tests.serve import server
from tests.serve.server import NAME, client, data_url, file, image, text, user

URLS = [data_url(file(seed)) for seed in range(2)]
CASES: dict[str, tuple[list[Any], str, list[bytes], list[tuple[str, str]], str | None]] = {
    # messages; question, media, history, system
    "text": ([user(text("What is the total?"))], "What is the total?", [], [], None),
    "picture": ([user(image(URLS[0]), text("What?"))], "What?", [file(0)], [], None),
    "two pictures": (
        [user(image(URLS[0]), text("Same?"), image(URLS[1]), text("Why?"))],
        "Same?\nWhy?", [file(0), file(1)], [], None,
    ),
    "history and system": (
        [
            {"role": "system", "content": "Be short."},
            {"role": "developer", "content": [text("Be kind.")]},
            user(image(URLS[1]), text("What?")),
            {"role": "assistant", "content": "A cat.", "refusal": None},
            {"role": "user", "content": "Where?"},
        ],
        "Where?", [file(1)], [("What?", "A cat.")], "Be short.\nBe kind.",
    ),
}  # fmt: skip


def expected(model: PLM, case: str, config: AnswerConfig) -> Answer:
    _, question, media, history, system = CASES[case]
    answerer = Answerer(model, config)
    if system is not None:
        answerer.chat = replace(answerer.chat, system=system)
    return answerer.answer(question, media, history)


def collect(stream: Any) -> tuple[str, list[Any]]:
    """Text and chunks of a stream."""
    chunks = list(stream)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_an_answerer_whole_and_streamed(address: str, plm: PLM, case: str) -> None:
    answer = expected(plm, case, AnswerConfig(max_new_tokens=24))
    assert len(answer.text) > 8
    ask: dict[str, Any] = {"model": NAME, "messages": CASES[case][0]}
    whole = client(address).chat.completions.create(**ask, max_tokens=24)
    assert whole.object == "chat.completion"
    assert whole.choices[0].message.role == "assistant"
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (answer.text, answer.why)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (answer.prompt_tokens, answer.new_tokens)
    assert whole.usage.total_tokens == answer.prompt_tokens + answer.new_tokens
    options = {"include_usage": True}
    stream = client(address).chat.completions.create(
        **ask, max_completion_tokens=24, stream=True, stream_options=options
    )
    pieces, chunks = collect(stream)
    assert pieces == answer.text
    assert len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + [answer.why]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1


def test_every_case_has_an_answer_of_its_own(plm: PLM) -> None:
    answers = {case: expected(plm, case, AnswerConfig(max_new_tokens=24)).text for case in CASES}
    assert len(set(answers.values())) == len(CASES)


def test_stop_strings_length_and_the_end_of_the_context(address: str, plm: PLM) -> None:
    free = expected(plm, "picture", AnswerConfig(max_new_tokens=24)).text
    stop = free[4:6]
    ask: dict[str, Any] = {"model": NAME, "messages": CASES["picture"][0], "max_tokens": 24}
    for given in (stop, [stop, "never"]):
        done = client(address).chat.completions.create(**ask, stop=given)
        assert (done.choices[0].message.content, done.choices[0].finish_reason) == (
            free[: free.index(stop)],
            "stop",
        )
        pieces, chunks = collect(client(address).chat.completions.create(**ask, stop=given, stream=True))
        assert (pieces, chunks[-1].choices[0].finish_reason) == (free[: free.index(stop)], "stop")
        assert all(chunk.usage is None for chunk in chunks)
    done = client(address).chat.completions.create(**{**ask, "max_tokens": 3})
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert done.usage.completion_tokens == 3


def test_sampling_with_a_seed_is_the_answerers_and_without_one_differs(address: str, plm: PLM) -> None:
    ask: dict[str, Any] = {"model": NAME, "messages": CASES["text"][0], "max_tokens": 24, "temperature": 1.5}
    create = client(address).chat.completions.create
    sampling = Sampling(temperature=1.5, top_p=0.9, seed=7)
    answer = expected(plm, "text", AnswerConfig(max_new_tokens=24, sampling=sampling))
    assert create(**ask, top_p=0.9, seed=7).choices[0].message.content == answer.text
    assert create(**ask, top_p=0.9, seed=8).choices[0].message.content != answer.text
    assert len({create(**ask).choices[0].message.content for _ in range(3)}) > 1


def test_low_detail_is_one_tile(address: str, plm: PLM) -> None:
    coarse = Answerer(plm, AnswerConfig(max_new_tokens=24, media=MediaLimits(max_tiles=1)))
    answer = coarse.answer("What?", [file(0)])
    fine = expected(plm, "picture", AnswerConfig(max_new_tokens=24))
    assert answer.prompt_tokens < fine.prompt_tokens
    messages = [user(image(URLS[0], detail="low"), text("What?"))]
    done = client(address).chat.completions.create(model=NAME, messages=messages, max_tokens=24)
    assert done.usage is not None
    assert (done.choices[0].message.content, done.usage.prompt_tokens) == (answer.text, answer.prompt_tokens)


@pytest.mark.parametrize("kind", ["jpeg", "webp", "gif", "bmp", "tiff"])
def test_formats_and_spellings_of_a_data_url(address: str, plm: PLM, kind: str) -> None:
    data = file(3, kind)
    answer = Answerer(plm, AnswerConfig(max_new_tokens=8)).answer("What?", [data])
    url = data_url(data, f"image/{kind}").replace("data:image", "DATA:Image").replace(";base64", ";name=a.b;BASE64")
    done = client(address).chat.completions.create(model=NAME, messages=[user(image(url), text("What?"))], max_tokens=8)
    assert done.choices[0].message.content == answer.text


def test_a_language_model_alone_reads_text_and_refuses_pictures(text_model: PLM) -> None:
    with server.serving(text_model) as address:
        answer = Answerer(text_model, AnswerConfig(max_new_tokens=12)).answer("What?")
        done = client(address).chat.completions.create(model=NAME, messages=[user(text("What?"))], max_tokens=12)
        assert done.choices[0].message.content == answer.text
        with pytest.raises(openai.BadRequestError, match="reads no pictures.*--plm") as caught:
            client(address).chat.completions.create(model=NAME, messages=CASES["picture"][0])
    assert caught.value.code == "images_not_supported"
    assert caught.value.param == "messages.0.content.0.image_url.url"


def test_models(address: str) -> None:
    assert [model.id for model in client(address).models.list()] == [NAME]
    assert client(address).models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError, match="only tiny"):
        client(address).models.retrieve("a/b")
    with pytest.raises(openai.NotFoundError, match="no 'gpt-4o' here, only 'tiny'") as caught:
        client(address).chat.completions.create(model="gpt-4o", messages=CASES["text"][0])
    assert caught.value.code == "model_not_found"


def test_health_ready_and_addresses_that_are_not_there(address: str) -> None:
    assert server.get(address, "/health")[:2] == (200, {"status": "ok"})
    assert server.get(address, "/ready")[:2] == (200, {"status": "ready"})
    for path in ("/", "/docs", "/redoc", "/v1/nothing"):
        status, body, _ = server.get(address, path)
        assert (status, body["error"]["code"]) == (404, "not_found")
    status, body, _ = server.get(address, "/v1/chat/completions")
    assert (status, body["error"]["message"]) == (405, "GET is not possible here")
