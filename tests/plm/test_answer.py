"""Answers: beside the plain model without a cache, in streams and batches, about pages read once, and interrupted."""

import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from PIL import Image

from midsight.errors import CheckpointError, InputError
from midsight.plm import PLM, Sampling
from midsight.plm.answer import Answer, AnswerConfig, Answerer, Ask
from midsight.plm.media import MediaLimits, open_media
from tests.plm import tiny

DEMO = Path(__file__).parents[2] / "midsight" / "assets" / "demo"
CAT, COFFEE, CLIP = (str(DEMO / name) for name in ("cat.jpg", "coffee.jpg", "temple.mp4"))
QUESTION = "What is the total of this invoice?"


@pytest.fixture(scope="module", params=["llama3", "chatml"])
def answerer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    model = tiny.plm(tmp_path_factory.mktemp(request.param), request.param, seed=2)
    model.config = replace(model.config, stop_token_ids=(model.config.stop_token_ids[0],))
    return Answerer(model, AnswerConfig(max_new_tokens=16))


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    return Answerer(tiny.plm(tmp_path_factory.mktemp("llama3"), seed=2), AnswerConfig(max_new_tokens=16))


def changed(answerer: Answerer, **changes: Any) -> Answerer:
    return Answerer(answerer.model, replace(answerer.config, **changes))


@torch.inference_mode()
def ids_without_cache(answerer: Answerer, media: list[Any], history: tuple[tuple[str, str], ...] = ()) -> list[int]:
    """The same prompt put together at once, the whole model run anew for each token, the most likely id taken."""
    model, chat = answerer.model, answerer.chat
    pixels = [medium.pixels for medium in open_media(media, model.config)]
    counts = [len(some) * model.config.tokens_per_tile for some in pixels]
    texts = [text for turn in history for text in turn] + [QUESTION]
    messages = [(*counts, texts[0]), *((text,) for text in texts[1:])]
    ids = [*chat.begin, *chat.message("system", (chat.system,))]
    for index, segments in enumerate(messages):
        ids += chat.message(("user", "assistant")[index % 2], segments)
    ids += chat.opening("assistant") + chat.tokenizer.encode(chat.lead)
    embeds = model.embed(torch.tensor([ids]), torch.cat(pixels)[None] if pixels else None)
    new: list[int] = []
    while len(new) < answerer.config.max_new_tokens:
        logits = model.language_model(inputs_embeds=embeds, use_cache=False).logits
        new.append(int(logits[0, -1].argmax()))
        embeds = torch.cat((embeds, model.token_embedding(torch.tensor([new[-1:]]))), 1)
    ends = [index for index, token in enumerate(new) if token in model.config.stop_token_ids]
    return new[: ends[0]] if ends else new


def without_cache(answerer: Answerer, media: list[Any], history: tuple[tuple[str, str], ...] = ()) -> str:
    return answerer.tokenizer.decode(ids_without_cache(answerer, media, history))


@pytest.mark.parametrize(
    ("media", "history"),
    [
        ([], ()),
        ([CAT], ()),
        ([CAT, COFFEE], ()),
        ([CLIP], ()),
        ([CAT], (("Who signed it?", "Viktor."), ("When?", "12"))),
    ],
    ids=["text", "tiles", "two_pictures", "video", "history"],
)
def test_answers_are_those_of_the_model_without_a_cache(
    answerer: Answerer, media: list[str], history: tuple[tuple[str, str], ...]
) -> None:
    ids = ids_without_cache(answerer, media, history)
    found = answerer.answer(QUESTION, media, history)
    assert len(set(ids)) > 4
    assert (found.text, found.new_tokens) == (answerer.tokenizer.decode(ids), len(ids))
    assert found.why == ("length" if len(ids) == 16 else "stop")


def test_the_picture_and_the_history_matter(answerer: Answerer) -> None:
    texts = {answerer.answer(QUESTION, [path]).text for path in (CAT, COFFEE)}
    texts |= {answerer.answer(QUESTION).text, answerer.answer(QUESTION, [CAT], [("And?", "No.")]).text}
    assert len(texts) == 4


def test_a_page_is_read_once(answerer: Answerer) -> None:
    """One pass of the tower, whatever is asked, and the answers of fresh prompts, in any order."""
    questions = [QUESTION, "Who signed it, and when?", "?", QUESTION]
    expected = [answerer.answer(question, [CAT]).text for question in questions]
    assert len(set(expected)) == 3
    page = answerer.read([CAT])
    tower = answerer.model.vision_model
    with mock.patch.object(tower, "forward_features", wraps=tower.forward_features) as passes:
        found = [answerer.answer(question, page).text for question in questions]
        assert "".join(answerer.stream(questions[1], page)) == expected[1]
        with_history = answerer.answer("When?", page, [(QUESTION, "12")])
        assert answerer.answer(questions[2], page).text == expected[2]
    assert passes.call_count == 1
    assert found == expected
    assert with_history == answerer.answer("When?", [CAT], [(QUESTION, "12")])


def test_a_stream_left_early_leaves_the_page_as_it_was(answerer: Answerer) -> None:
    page = answerer.read([CAT])
    stream = answerer.stream(QUESTION, page)
    next(stream)
    stream.close()
    assert answerer.answer("When?", page) == answerer.answer("When?", [CAT])


def test_batches_equal_single_answers(answerer: Answerer) -> None:
    """Prompts with no, one, several tiles, a video and a history, decoded together."""
    asks = [
        Ask(QUESTION, [CAT]),
        Ask("When?"),
        Ask("?", [CAT, COFFEE]),
        Ask(QUESTION, [CLIP]),
        Ask(QUESTION, [COFFEE], [("Who signed it, and when?", "Viktor.")]),
    ]
    single = [answerer.answer(ask.question, ask.media, ask.history) for ask in asks]
    assert len({answer.prompt_tokens for answer in single}) == 5
    assert answerer.answer_batch(asks) == single
    assert answerer.answer_batch([]) == []


def test_rows_of_a_batch_end_for_themselves(llama3: Answerer) -> None:
    texts = [llama3.answer(question).text for question in ("When?", QUESTION)]
    stops = texts[0][3:5], texts[1][-3:]
    stopping = changed(llama3, stop=stops)
    asks = [Ask("When?"), Ask(QUESTION), Ask("When?", [CAT])]
    found = stopping.answer_batch(asks)
    assert found == [stopping.answer(ask.question, ask.media) for ask in asks]
    assert found[0].why == found[1].why == "stop"
    assert found[0].new_tokens < found[1].new_tokens


def test_a_stream_returns_the_whole_answer_and_ends_when_it_is_told_to(answerer: Answerer) -> None:
    def run(until: Callable[[], bool]) -> Generator[str, None, None]:
        returned.append((yield from answerer.stream(QUESTION, page, until=until)))

    returned: list[Answer] = []
    page = answerer.read([CAT])
    whole = answerer.answer(QUESTION, page)
    assert whole.new_tokens > 4
    assert "".join(run(lambda: False)) == whole.text
    assert returned == [whole]
    asked = iter((False, False, True))
    text = "".join(run(lambda: next(asked)))
    assert returned[1] == Answer(text, "interrupted", whole.prompt_tokens, 3)
    assert whole.text.startswith(text)
    assert answerer.answer(QUESTION, page) == whole  # the page is as it was


def test_pieces_of_a_stream_add_up(answerer: Answerer) -> None:
    """Whole characters, as they become certain, though a token may be half a one."""
    whole = answerer.answer(QUESTION, [CAT]).text
    pieces = list(answerer.stream(QUESTION, [CAT]))
    assert "".join(pieces) == whole
    assert len(pieces) > 4
    assert all(pieces)


def test_stop_strings_over_the_borders_of_tokens(answerer: Answerer) -> None:
    whole = answerer.answer(QUESTION, [CAT])
    assert whole.new_tokens > len(whole.text) / 4  # three characters are more than one token, as a rule
    for start in range(2, 8):
        stop = whole.text[start : start + 3]
        expected = whole.text[: whole.text.index(stop)]
        stopping = changed(answerer, stop=("never said", stop))
        found = stopping.answer(QUESTION, [CAT])
        assert (found.text, found.why) == (expected, "stop")
        assert "".join(stopping.stream(QUESTION, [CAT])) == expected


def test_an_end_token_ends(llama3: Answerer) -> None:
    """It is not part of the answer, and not counted; the length is not reached."""
    whole = llama3.answer(QUESTION, [CAT])
    ids = ids_without_cache(llama3, [CAT])
    with mock.patch.object(llama3.model, "config", replace(llama3.model.config, stop_token_ids=(ids[5],))):
        found = llama3.answer(QUESTION, [CAT])
    before = ids[: ids.index(ids[5])]
    assert found == Answer(llama3.tokenizer.decode(before), "stop", whole.prompt_tokens, len(before))


def test_an_end_at_the_last_token_is_an_end(llama3: Answerer) -> None:
    """max_new_tokens were drawn, but the last of them ended the answer."""
    ids = ids_without_cache(llama3, [CAT])
    last = next(i for i in range(4, len(ids)) if ids.index(ids[i]) == i)
    short = changed(llama3, max_new_tokens=last + 1)
    with mock.patch.object(llama3.model, "config", replace(llama3.model.config, stop_token_ids=(ids[last],))):
        assert short.answer(QUESTION, [CAT]).why == short.answer_batch([Ask(QUESTION, [CAT])])[0].why == "stop"


def test_sampling_hangs_on_the_seed_alone(answerer: Answerer) -> None:
    def draw(seed: int) -> str:
        config = replace(answerer.config, sampling=Sampling(temperature=1.5, seed=seed))
        return Answerer(answerer.model, config).answer(QUESTION, [CAT]).text

    first, other = draw(1), draw(2)
    torch.manual_seed(99)
    assert draw(1) == first != other


def interrupting(answerer: Answerer, step: int) -> Any:
    """Ctrl-C in the middle of the n-th pass of the language model's second layer."""
    passes: Iterator[int] = iter(range(1000))
    layer = answerer.model.language_model.model.layers[1].input_layernorm
    return layer.register_forward_hook(lambda *_: signal.raise_signal(signal.SIGINT) if next(passes) == step else None)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_ctrl_c_keeps_what_there_is(answerer: Answerer, step: int) -> None:
    """In the pass over the prompt and between tokens; the page is of use afterwards."""
    whole, page = answerer.answer(QUESTION, [CAT]), answerer.read([CAT])
    hook = interrupting(answerer, step)
    try:
        found = answerer.answer(QUESTION, page)
    finally:
        hook.remove()
    assert found.why == "interrupted"
    assert found.new_tokens == step
    assert found.text == answerer.tokenizer.decode(ids_without_cache(answerer, [CAT])[: found.new_tokens])
    assert answerer.answer(QUESTION, page) == whole


def test_what_two_prompts_begin_with_is_computed_once(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pages with pictures and without, whatever comes before and between the questions."""
    lengths: list[int] = []
    real = answerer.model.decode

    def decode(embeds: torch.Tensor, *rest: Any, **options: Any) -> Iterator[torch.Tensor]:
        lengths.append(embeds.shape[1])
        return real(embeds, *rest, **options)

    text = "the total is 78 and the date is June. "
    for media in ([CAT], []):
        page = answerer.read(media)
        for question in (f"{text}What is the total?", f"{text}When?", f"{text}When?", "Who signed it?"):
            expected = answerer.answer(question, media)
            with monkeypatch.context() as patched:
                patched.setattr(answerer.model, "decode", decode)
                assert answerer.answer(question, page) == expected
            assert page.cached == answerer.prompt_ids(question, page)
        first, again, same, other = lengths[-4:]
        assert again < first - len(page.ids)
        assert same == 1
        assert other <= first - len(page.ids)


def test_a_prompt_longer_than_the_context_is_an_error(tmp_path: Path) -> None:
    answerer = Answerer(tiny.plm(tmp_path, shape=tiny.Shape(context_length=150)), AnswerConfig(max_new_tokens=4))
    answerer.answer("When?", [CAT])
    with pytest.raises(InputError, match=r"reads 150: use a shorter question"):
        answerer.answer("invoice " * 200)
    with pytest.raises(InputError, match=r"300 of them visual.* use fewer tiles or frames \(max_tiles, max_frames\)"):
        changed(answerer, media=MediaLimits(max_tiles=74)).read([Image.new("RGB", (74, 1))])
    with pytest.raises(InputError, match="reads 150"):
        answerer.answer_batch([Ask("When?"), Ask("invoice " * 200)])


def test_an_answer_ends_with_the_context(tmp_path: Path) -> None:
    """The last place is used, none behind it."""
    model = tiny.plm(tmp_path, shape=tiny.Shape(context_length=150))
    model.config = replace(model.config, stop_token_ids=(999,))
    answerer = Answerer(model, AnswerConfig(max_new_tokens=400))
    found = answerer.answer("Who signed it, and when?", [CAT])
    assert found.why == "length"
    assert found.prompt_tokens + found.new_tokens == 150
    assert answerer.answer_batch([Ask("Who signed it, and when?", [CAT]), Ask("When?")])[0] == found


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_an_error(llama3: Answerer, question: str) -> None:
    for call in (llama3.answer, llama3.stream):
        with pytest.raises(InputError, match="question is empty"):
            list(call(question))  # type: ignore[call-overload, operator]
    with pytest.raises(InputError, match="question is empty"):
        llama3.answer_batch([Ask(QUESTION), Ask(question)])


def test_text_that_spells_special_tokens_stays_text(answerer: Answerer) -> None:
    """Neither an image token without an image nor an end of the user's turn."""
    special = set(answerer.tokenizer.special_tokens.values())
    for text in answerer.tokenizer.special_tokens:
        question = f"What does {text} mean?"
        ids = answerer.tokenizer.encode(question)
        assert not special & set(ids)
        assert answerer.tokenizer.decode(ids) == question
    found = answerer.answer("<|image|><|eot_id|><|im_end|> What?", [CAT], [("<|image|>", "<|eot_id|>")])
    plain = answerer.answer("What?", [CAT], [("A", "B")])
    assert found.prompt_tokens > plain.prompt_tokens + 20
    assert found.new_tokens


def test_a_page_of_one_pixel(answerer: Answerer) -> None:
    found = answerer.answer(QUESTION, [Image.new("RGB", (1, 1), (255, 0, 0))])
    assert found.text == without_cache(answerer, [Image.new("RGB", (1, 1), (255, 0, 0))])


def test_a_model_without_a_tokenizer_is_an_error(llama3: Answerer) -> None:
    model = PLM(llama3.model.config, llama3.model.language_model)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        Answerer(model)
