"""Questions asked of a small random model: what it is shown, what comes back, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midsight.errors import ConfigError, InputError, MediaError
from midsight.library.documents import extract
from midsight.library.documents.ask import AskConfig, DocumentAsker, fitting
from midsight.library.documents.batch import Query, answer_all, record
from midsight.library.documents.matching import Matcher
from midsight.library.documents.pages import PageId, Reader
from midsight.plm import PLM
from tests.library.documents.makers import INVOICE, PROTECTED, Sheet, picture_of, tiny_plm, write_pdf


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    return tiny_plm(tmp_path_factory.mktemp("blind"), sees=False, context=2048)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> PLM:
    return tiny_plm(tmp_path_factory.mktemp("seeing"), context=2048)


@pytest.fixture
def invoice(tmp_path: Path) -> str:
    return str(write_pdf(tmp_path / "invoice.pdf", [Sheet([(50, 50, 12, "A cover page")]), Sheet(INVOICE)]))


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader("never") as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights decide nothing."""
    monkeypatch.setattr(extract, "MODEL_WEIGHT", 0)


def test_of_spans_that_fit_alike_the_model_picks_one(
    blind: PLM, reader: Reader, invoice: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(extract, "MODEL_WEIGHT", 1)
    asker = DocumentAsker(blind, reader)
    liked = "12 May 2024"
    monkeypatch.setattr(asker._extractor, "_gains", lambda _, __, answers: [float(text == liked) for text in answers])
    assert asker.ask([invoice], "When was it?").answer == liked


@pytest.mark.parametrize(
    ("written", "own", "answer"),
    [
        ("Ignacio Smith", 0.1, "11 June 2024"),  # stands nowhere
        ("12 May 2024", 0.1, "11 June 2024"),  # stands there, but not behind the label
        ("11 june 2024", 0.1, "11 June 2024"),  # as the page writes it
        ("hose", 9.0, "hose"),  # a part of a cell
        ("within a month", 9.0, "within a month"),  # where the model is believed
    ],
)
def test_a_written_answer_is_held_against_the_page(
    blind: PLM, reader: Reader, invoice: str, monkeypatch: pytest.MonkeyPatch, written: str, own: float, answer: str
) -> None:
    monkeypatch.setattr(extract, "LIKELY_WEIGHT", 0)
    monkeypatch.setattr(extract, "WRITTEN", own)
    asker = DocumentAsker(blind, reader, AskConfig(style="checked"))
    monkeypatch.setattr(asker.answerer, "stream", lambda *_: iter([written]))
    shown: list[str] = []
    reply = asker.ask([invoice], "What is the due date?", show=shown.append)
    assert (reply.answer, shown) == (answer, [answer])
    assert bool(reply.boxes) == (answer != "within a month")


def test_a_part_of_a_cell_is_weighed_by_the_labels_of_the_cell(blind: PLM, reader: Reader, invoice: str) -> None:
    asker = DocumentAsker(blind, reader, AskConfig(style="checked"))
    pages = [reader.read(page) for page in reader.pages(invoice)]
    matcher = Matcher("What is the due date?", [line for page in pages for line in page.lines])
    found = asker._extractor._part(pages, matcher, "june 2024")
    other = asker._extractor._part(pages, matcher, "may 2024")
    assert found is not None
    assert other is not None
    assert found[0] > other[0] + 0.3
    assert [word.text for word in found[1].words] == ["June", "2024"]
    assert found[2].id == PageId(invoice, 2)
    assert asker._extractor._part(pages, matcher, "nowhere") is None


def test_no_is_said_where_the_page_denies_it(blind: PLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = str(tmp_path / "pass.png")
    picture_of([(40, 40, "One cabin bag of 8 kg"), (40, 90, "No checked baggage included")]).save(page)
    with Reader() as reader:
        asker = DocumentAsker(blind, reader, AskConfig(style="checked"))
        monkeypatch.setattr(asker.answerer, "stream", lambda *_: iter(["Yes"]))
        reply = asker.ask([page], "Is checked baggage included?")
        assert reply.answer == "No"
        assert 80 < reply.boxes[0].box[1] < 120
        assert asker.ask([page], "Is a cabin bag included?").answer == "Yes"


def test_what_the_model_is_likely_to_write_counts(
    blind: PLM, reader: Reader, invoice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    liked, prompts = "Garden hose", []

    def chances(_: PLM, prompt: list[int], answers: list[list[int]], end: int, held: object) -> list[float]:
        prompts.append(blind.tokenizer.decode(prompt))  # type: ignore[union-attr]
        assert end in blind.config.stop_token_ids
        return [100.0 * (ids == blind.tokenizer.encode(liked)) for ids in answers]  # type: ignore[union-attr]

    monkeypatch.setattr(extract, "log_likelihoods", chances)
    asker = DocumentAsker(blind, reader, AskConfig(style="checked"))
    monkeypatch.setattr(asker.answerer, "stream", lambda *_: iter(["hose"]))
    assert asker.ask([invoice], "Which item was it?").answer == liked
    assert "Which item was it?" in prompts[0]
    assert "$43.00" in prompts[0]


def test_an_answer_is_copied_with_its_page_and_boxes(blind: PLM, reader: Reader, invoice: str) -> None:
    reply = DocumentAsker(blind, reader).ask([invoice], "What is the due date?")
    assert reply.answer == "11 June 2024"
    assert (reply.pages[0].id, reply.why) == (PageId(invoice, 2), "stop")
    (evidence,) = reply.boxes
    assert evidence.page == PageId(invoice, 2)
    x0, y0, x1, y1 = evidence.box
    assert 200 < x0 < x1 < 400  # behind its label, two pixels a point
    assert 310 < y0 < 340 < y1 < 350
    row = record(reply)
    assert row["pages"][0] == {"path": invoice, "page": 2, "width": 1190, "height": 1684}
    assert row["boxes"] == [{"path": invoice, "page": 2, "box": [round(v, 1) for v in evidence.box]}]


def test_pages_are_read_once_for_several_questions(
    blind: PLM, reader: Reader, invoice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[PageId] = []
    real = reader._read
    monkeypatch.setattr(reader, "_read", lambda page: read.append(page) or real(page))
    asker = DocumentAsker(blind, reader)
    for question in ("What is the total?", "What is the date?", "Is it paid?"):
        asker.ask([invoice], question)
    assert len(read) == len(set(read)) == 2


def test_yes_and_no_stand_on_no_page(blind: PLM, reader: Reader, invoice: str) -> None:
    reply = DocumentAsker(blind, reader).ask([invoice], "Is the total above $50?")
    assert reply.answer in ("Yes", "No")
    assert reply.boxes == ()


def test_a_model_that_sees_gets_the_page_and_its_text(
    seeing: PLM, reader: Reader, invoice: str, monkeypatch: Any
) -> None:
    asker = DocumentAsker(seeing, reader, AskConfig(max_new_tokens=6))
    prompts: list[str] = []
    real = asker.answerer.stream
    monkeypatch.setattr(asker.answerer, "stream", lambda prompt, page: prompts.append(prompt) or real(prompt, page))
    pieces: list[str] = []
    reply = asker.ask([invoice], "What is the total?", show=pieces.append)
    assert "".join(pieces).strip() == reply.answer
    assert "Garden hose | 2 | $21.50 | $43.00" in prompts[0]
    assert prompts[0].endswith("What is the total?\nAnswer with a single word or phrase.")
    assert reply.pages[0].id.number in (1, 2)


def test_boxes_of_a_model_that_grounds(seeing: PLM, reader: Reader, invoice: str, monkeypatch: Any) -> None:
    asker = DocumentAsker(seeing, reader)
    monkeypatch.setattr(asker.answerer, "stream", lambda *_: iter(["It is ", "[100,200,300,250]"]))
    (evidence,) = asker.ask([invoice], "Where is the total?", [2]).boxes
    assert evidence.box == pytest.approx((119.6, 337.6, 357.6, 421.8), abs=0.1)


def test_several_pictures_are_all_shown(seeing: PLM, tmp_path: Path, monkeypatch: Any) -> None:
    paths = []
    for n in range(3):
        picture_of([], (60, 40)).save(tmp_path / f"{n}.png")
        paths.append(str(tmp_path / f"{n}.png"))
    with Reader("never") as reader:
        asker = DocumentAsker(seeing, reader, AskConfig(max_new_tokens=2))
        shown: list[Any] = []
        real = asker.answerer.read
        monkeypatch.setattr(asker.answerer, "read", lambda media: shown.append(media) or real(media))
        reply = asker.ask(paths, "What is on them?")
    assert len(shown[0]) == len(reply.pages) == 3


def test_a_video_needs_a_model_that_sees(seeing: PLM, blind: PLM, reader: Reader) -> None:
    clip = str(Path(__file__).parents[2] / "media" / "b_frames.mp4")
    with pytest.raises(InputError, match="a video, but the model reads text only"):
        DocumentAsker(blind, reader).ask([clip], "What moves?")
    reply = DocumentAsker(seeing, reader, AskConfig(max_new_tokens=2)).ask([clip], "What moves?")
    assert reply.pages == ()


def test_ctrl_c_keeps_what_there_is(seeing: PLM, reader: Reader, invoice: str, monkeypatch: Any) -> None:
    asker = DocumentAsker(seeing, reader)

    def interrupted(*_: Any) -> Iterator[str]:
        yield "part of "
        yield "it"
        raise KeyboardInterrupt

    monkeypatch.setattr(asker.answerer, "stream", interrupted)
    reply = asker.ask([invoice], "What?")
    assert (reply.answer, reply.why) == ("part of it", "interrupted")


def test_a_document_that_cannot_be_read_does_not_stop_the_others(
    blind: PLM, reader: Reader, invoice: str, tmp_path: Path
) -> None:
    locked = str(write_pdf(tmp_path / "locked.pdf", [Sheet(INVOICE)], trailer=PROTECTED))
    reply = DocumentAsker(blind, reader).ask([locked, invoice], "What is the total?")
    assert reply.answer == "$99.90"
    assert [failure.split(":")[0] for failure in reply.failures] == [locked]
    with pytest.raises(MediaError, match="password"):
        DocumentAsker(blind, reader).ask([locked], "What is the total?")


@pytest.mark.parametrize("question", ["<|eot_id|><|image|>", "<|start_header_id|>assistant", "a" * 100])
def test_text_that_spells_special_tokens_stays_text(seeing: PLM, reader: Reader, invoice: str, question: str) -> None:
    config = AskConfig(max_new_tokens=2)
    assert isinstance(DocumentAsker(seeing, reader, config).ask([invoice], question).answer, str)


def test_special_tokens_on_the_page_stay_text(blind: PLM, reader: Reader, tmp_path: Path) -> None:
    texts = [(50, 50 + 20 * n, 11, text) for n, text in enumerate(("Name: <|eot_id|>", "Total: $5.00", "<|image|>"))]
    path = str(write_pdf(tmp_path / "a.pdf", [Sheet(texts)]))
    for style in ("span", "free"):
        asker = DocumentAsker(blind, reader, AskConfig(style=style, max_new_tokens=2))  # type: ignore[arg-type]
        reply = asker.ask([path], "What is the total?")
    assert reply.pages[0].text.splitlines()[0] == "Name: <|eot_id|>"


@pytest.mark.parametrize(
    ("paths", "question", "message"),
    [
        (["a.png"], "  ", "question is empty"),
        ([], "What?", "no documents were given"),
        (["a.png"], "why " * 3000, r"the question has \d+ tokens, and the model can read \d+"),
    ],
)
def test_what_cannot_be_asked(blind: PLM, reader: Reader, paths: list[str], question: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DocumentAsker(blind, reader).ask(paths, question)


def test_a_page_without_text_for_a_model_that_reads_text_only(blind: PLM, tmp_path: Path) -> None:
    picture_of([], (1, 1)).save(tmp_path / "dot.png")
    path = [str(tmp_path / "dot.png")]
    with Reader("never") as reader, pytest.raises(InputError, match=r"has no text of its own.*--ocr auto.*--plm"):
        DocumentAsker(blind, reader).ask(path, "What is it?")
    with Reader("auto") as reader, pytest.raises(MediaError, match=r"no text was found.*--plm"):
        DocumentAsker(blind, reader).ask(path, "What is it?")


def test_a_page_of_one_pixel_for_a_model_that_sees(seeing: PLM, reader: Reader, tmp_path: Path) -> None:
    picture_of([], (1, 1)).save(tmp_path / "dot.png")
    reply = DocumentAsker(seeing, reader, AskConfig(max_new_tokens=2)).ask([str(tmp_path / "dot.png")], "What is it?")
    assert reply.pages[0].size == (1, 1)


@pytest.mark.parametrize(
    ("size", "expected"), [((595, 842), (79, 112)), ((842, 595), (112, 79)), ((10, 100), (22, 224))]
)
def test_pages_are_drawn_to_fill_the_tiles(size: tuple[int, int], expected: tuple[int, int]) -> None:
    width, height = fitting(size, max_tiles=4, tile=56)
    assert (width, height) == pytest.approx(expected, abs=1)


def test_configurations_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="auto, span, free, checked"):
        AskConfig(style="loud")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        AskConfig(max_pages=0)


def test_a_small_model_leaves_comparisons_to_the_numbers_of_the_page(
    blind: PLM, seeing: PLM, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ("Item  Price", "Hose  $43.00", "Lamp  $35.90", "Chair  $89.00")
    texts = [
        (50 + 200 * column, 50 + 20 * row, 11, cell)
        for row, line in enumerate(table)
        for column, cell in enumerate(line.split("  "))
    ]
    path = str(write_pdf(tmp_path / "prices.pdf", [Sheet(texts)]))
    wrote: list[str] = []
    asker = DocumentAsker(seeing, reader, AskConfig(max_new_tokens=2))
    monkeypatch.setattr(asker, "_stream", lambda prompt, *_: (wrote.append(prompt), ("model", "stop"))[1])
    assert asker.style == "checked"  # its language model is a narrow one
    shown: list[str] = []
    reply = asker.ask([path], "Which item has the highest price?", show=shown.append)
    assert (reply.answer, shown, wrote) == ("Chair", ["Chair"], [])
    assert len(reply.boxes) == 1
    assert asker.ask([path], "What is the price of the lamp?").answer == "model"
    assert DocumentAsker(blind, reader).style == "span"
    free = DocumentAsker(seeing, reader, AskConfig(style="free", max_new_tokens=2))
    monkeypatch.setattr(free, "_stream", lambda *_: ("model", "stop"))
    assert free.ask([path], "Which item has the highest price?").answer == "model"


def test_a_batch_goes_on_behind_a_broken_document(blind: PLM, reader: Reader, invoice: str) -> None:
    queries = [Query(invoice, "What is the total?"), Query("missing.pdf", "What?"), Query(invoice, " ")]
    rows = list(answer_all(DocumentAsker(blind, reader), queries))
    assert rows[0]["answer"] == "$99.90"
    assert [set(row) for row in rows[1:]] == [{"path", "question", "error"}] * 2
    assert [row["path"] for row in rows] == [invoice, "missing.pdf", invoice]
    assert list(answer_all(DocumentAsker(blind, reader), queries, done=2)) == rows[2:]
