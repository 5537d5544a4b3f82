"""The benchmarks' own arithmetic and bookkeeping; nothing here measures speed."""

import hashlib
import io
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import common, gpu, machine, media, report, tracking
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.captions import CAPTIONS
from benchmarks.names import GFLOP, OPEN_CLIP_NAMES, SIZES, TIMM_NAMES
from midsight import pe
from midsight.configs import MODELS
from midsight.video import probe

FOLDER = Path(report.__file__).parent
HELPERS = {
    "__init__",
    "__main__",
    "captions",
    "child",
    "common",
    "documents",
    "hostile",
    "index_cost",
    "index_faults",
    "index_speed",
    "machine",
    "media",
    "moderation",
    "names",
    "photographs",
    "projector",
    "plm_case",
    "plm_folders",
    "report",
    "search_start",
    "serve_contract",
    "serve_faults",
    "serve_peer",
    "serving",
    "strangers",
    "twins",
}


def test_a_ratio_is_the_median_of_paired_rounds() -> None:
    found = common.ratio([1.0, 2.0, 4.0], [2.0, 3.0, 16.0], "timm")
    assert (found.median, found.rounds) == (2.0, 3)  # the ratios are 2, 1.5 and 4; of the medians it would be 1.5
    assert found.low == pytest.approx(np.percentile([1.5, 2, 4], 10))
    assert found.high == pytest.approx(np.percentile([1.5, 2, 4], 90))


def test_a_ratio_is_written_with_its_spread() -> None:
    assert str(common.Ratio(1.291, 1.336, 1.384, 15, "timm")) == "1.34x timm (1.29-1.38, 15 rounds)"


@pytest.mark.parametrize("times", [([1.0], [1.0, 2.0]), ([], []), (1.0, 1.0)])
def test_times_that_are_not_paired_are_refused(times: tuple[object, object]) -> None:
    with pytest.raises(ValueError, match="paired"):
        common.ratio(*times, "timm")  # type: ignore[arg-type]


def test_the_best_peer_counts() -> None:
    times = {"ours": np.array([1.0, 1.0]), "slow": np.array([9.0, 9.0]), "fast": np.array([2.0, 4.0])}
    found = common.against_best(times, "ours", ["slow", "fast"])
    assert (found.than, found.median) == ("fast", 3.0)


def test_goals_are_judged_by_the_median() -> None:
    found = common.Ratio(0.9, 1.1, 2.0, 7, "timm")
    assert common.verdict(found, 1.1) == ">= 1.1x, met"
    assert common.verdict(found, 1.2) == ">= 1.2x, **missed**"
    assert common.verdict(found, at_most=1.05) == "<= 1.05x, **missed**"
    assert common.verdict(found, at_most=1.3) == "<= 1.3x, met"
    assert common.verdict(found) == "-"


def test_candidates_take_turns_after_one_warm_up() -> None:
    order: list[str] = []
    ticks = iter(range(1000))
    calls = {name: lambda name=name: order.append(name) for name in "ABC"}
    times = common.in_turn(calls, rounds=2, clock=lambda: float(next(ticks)))
    assert "".join(order) == "ABCABCABC"
    assert {name: list(values) for name, values in times.items()} == {name: [1.0, 1.0] for name in "ABC"}


def test_a_sample_repeats_its_call_until_it_is_long_enough() -> None:
    now = 0.0

    def call() -> None:
        nonlocal now
        now += 0.03

    assert common.seconds_per_call(call, lambda: now, at_least=0.1) == pytest.approx(0.03)
    assert now == pytest.approx(0.12)


def test_cpu_time_counts_ended_children_and_not_sleep() -> None:
    start = common.cpu_seconds()
    time.sleep(0.3)
    slept = common.cpu_seconds() - start
    spent = common.fresh("benchmarks.names:nothing")
    both = common.cpu_seconds() - start
    assert slept < 0.2
    assert 0 < spent.cpu <= both
    assert spent.wall > 0


def test_a_fresh_process_reports_its_value_and_its_own_peak() -> None:
    held = np.ones(50_000_000)  # 400 MB here must not show there
    small = common.fresh("benchmarks.names:nothing")
    assert 5 < small.peak < 100 < held.nbytes / 1e6
    assert common.fresh("builtins:sorted", [3, 1, 2]).value == [1, 2, 3]


def test_a_failing_process_is_told_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        common.fresh("builtins:divmod", 1, 0)


def test_errors_are_taken_by_rows() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert common.relative_error(expected * [[1.0], [1.5]], expected) == pytest.approx(0.5)
    assert common.least_cosine([[3.0, 4.0], [1.0, 1.0]], expected) == pytest.approx(2**-0.5)


def test_models_that_differ_or_say_nothing_are_not_timed() -> None:
    outputs = np.random.default_rng(0).standard_normal((2, 64))
    common.check_same(outputs, outputs, "twins")
    with pytest.raises(RuntimeError, match="cosine"):
        common.check_same(outputs + 0.01, outputs, "strangers")
    with pytest.raises(RuntimeError, match="near zero"):
        common.check_same(outputs * 1e-5, outputs * 1e-5, "fresh weights")


def test_an_unsteady_machine_is_noticed() -> None:
    assert machine.unsteady({"probe": np.array([1.0, 1.5, 1.6])}, ["probe"])
    assert not machine.unsteady({"probe": np.array([1.0, 1.05, 1.1])}, ["probe"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_probe_computes_what_it_is_counted_for(dtype: torch.dtype) -> None:
    found = machine.probe(dtype)()
    assert isinstance(found, torch.Tensor)
    assert found.shape == (machine.PROBE_SIDE, machine.PROBE_SIDE)
    rate = machine.probe_flops({"probe": np.array([1.0])}, "probe")
    assert rate == 2 * machine.PROBE_SIDE**3


def test_a_table_can_be_read_back() -> None:
    rows = [{"Case": "a", "Goal": "-"}, {"Case": "b", "Goal": ">= 2x, met", "Note": "x"}]
    assert report.read_table(report.table(rows)) == [rows[0] | {"Note": "-"}, rows[1]]


def test_sections_keep_their_places_and_others_stay(tmp_path: Path) -> None:
    path, order = tmp_path / "RESULTS.md", ("first", "second")
    row = {"Case": "a", "Speed": "2.00x timm", "Goal": ">= 1x, met"}
    report.write("second", report.Section("Two", "Why.", [row]).text("When."), order, path)
    report.write("first", report.Section("One", "Why.").text("When."), order, path)
    report.write("first", report.Section("One", "Again.").text("When."), order, path)
    text = path.read_text()
    sections = report.sections_of(text)
    assert list(sections) == ["first", "second"]
    assert sections["first"] == "## One\n\nAgain.\n\nWhen."
    assert report.read_table(text.split("<!-- question")[0]) == [{"Question": "second", **row}]


def test_sections_of_another_machine_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "RESULTS.md"
    report.write("first", "## One", ("first", "second"), path)
    monkeypatch.setattr(machine, "describe", lambda: "- CPU: another")
    report.write("second", "## Two", ("first", "second"), path)
    assert list(report.sections_of(path.read_text())) == ["second"]
    assert report.machine_of(path.read_text()) == "- CPU: another"


def test_what_is_measured_elsewhere_stays_beside_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, order = tmp_path / "RESULTS.md", ("first", "gpu")
    measured = report.Section("GPU", "Why.", [{"Case": "a", "Speed": "2.00x timm", "Goal": ">= 1x, met"}]).text("When.")
    report.write("first", "## One", order, path)
    here = report.machine_of(path.read_text())
    monkeypatch.setattr(machine, "describe", lambda: "- CPU: another, with a GPU")
    report.write("gpu", measured, order, path)
    assert report.machine_of(path.read_text()) == here
    assert report.sections_of(path.read_text()) == {"first": "## One", "gpu": measured}
    report.write("gpu", "## GPU\n\nNot run.", order, path)  # there is no GPU here
    report.write("first", "## Again", order, path)
    assert report.sections_of(path.read_text()) == {"first": "## Again", "gpu": measured}
    assert report.machine_of(path.read_text()) == "- CPU: another, with a GPU"


def test_a_gpu_case_that_fails_is_a_row_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "RuntimeError: first\ntorch.AcceleratorError: CUDA error: an illegal | address\nSearch for more.\n"

    def fresh(task: str, *arguments: object) -> common.Spent:
        if arguments[-1] is True:
            raise RuntimeError(f"{task}{arguments} failed:\n{told}")
        return common.Spent(1, 1, 1, {"Speed": "2.00x timm", "Goal": ">= 1x, met"})

    monkeypatch.setattr(gpu, "fresh", fresh)
    monkeypatch.setattr(gpu, "sweep_note", lambda name, until: name)
    monkeypatch.setattr(gpu, "device", lambda: "a stand-in")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    section = gpu.run()
    assert len(section.rows) == len(GFLOP) * len(gpu.CASES)
    failed = [row for row in section.rows if "graphs" in row["Case"]]
    assert {row["Speed"] for row in failed} == {"**failed**: torch.AcceleratorError: CUDA error: an illegal / address"}
    assert {row["Goal"] for row in failed} == {"**not measured**"}
    assert [row for row in section.rows if row["Goal"] == ">= 1x, met"] == [r for r in section.rows if r not in failed]
    assert report.read_table(section.text("When.")) == section.rows
    assert gpu.attempt("PE-Core-T16-384", 1, False, 0.0)["Speed"] == "not measured, for want of time"


def test_a_gpu_sweep_that_fails_is_a_note() -> None:
    note = gpu.sweep_note("PE-Core-T16-348", float("inf"))
    assert note.startswith("Graphs of PE-Core-T16-348: **failed**: midsight.errors.UnknownModelError: ")
    assert gpu.sweep_note("PE-Core-T16-384", 0.0) == "Graphs of PE-Core-T16-384: not measured, for want of time."


def test_every_file_is_a_question_or_a_helper() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(QUESTIONS) | HELPERS


def test_the_record_has_a_section_for_every_question() -> None:
    text = report.RESULTS.read_text()
    sections = report.sections_of(text)
    assert list(sections) == list(QUESTIONS)
    assert "CPU:" in report.machine_of(text)
    for name, section in sections.items():
        assert section.startswith("## ")
        assert "Measured 20" in section
        assert name == "gpu" or report.read_table(section)


def test_unknown_questions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "sound"]) == 2
    assert "no question sound; there are image" in capsys.readouterr().err


@pytest.mark.parametrize("name", SIZES)
def test_names_sizes_and_counted_operations_fit_the_configurations(name: str) -> None:
    config = MODELS[name].vision
    assert SIZES[name] == config.image_size
    tokens = config.grid**2 + 1
    linear = 2 * tokens * 12 * config.width**2  # qkv, projection and MLP of ratio 4
    attention = 2 * 2 * tokens**2 * config.width
    patches = 2 * config.grid**2 * 3 * config.patch_size**2 * config.width
    assert GFLOP[name] == pytest.approx((config.layers * (linear + attention) + patches) / 1e9, rel=0.06)
    assert name in TIMM_NAMES
    assert name in OPEN_CLIP_NAMES


def test_made_photographs_are_the_same_each_time_and_no_two_alike() -> None:
    data = media.jpeg(320, 240, seed=1)
    assert hashlib.sha256(data).digest() == hashlib.sha256(media.jpeg(320, 240, seed=1)).digest()
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (320, 240))
        pixels = np.asarray(image, np.float32)
    with Image.open(io.BytesIO(media.jpeg(320, 240, seed=2))) as image:
        assert np.abs(pixels - np.asarray(image)).mean() > 10
    assert pixels.std() > 20


def test_made_clips_have_the_frames_and_key_frames_asked_for(tmp_path: Path) -> None:
    import av

    path = media.write_clip(tmp_path / "clip.mp4", "mpeg4", (64, 48), count=25, key_every=12)
    found = probe(path)
    assert (found.frames, found.width, found.height) == (25, 64, 48)
    with av.open(str(path)) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert [index for index, key in enumerate(keys) if key] == [0, 12, 24]


def test_captions_are_short_and_differ() -> None:
    assert len(set(CAPTIONS)) == len(CAPTIONS) >= 200
    assert max(len(caption.split()) for caption in CAPTIONS) <= 14


def test_drawn_weights_are_no_fresh_weights() -> None:
    from benchmarks.twins import draw

    small = pe.VisionTransformer.from_config("PE-Core-T16-384", layers=1, image_size=64).eval()
    draw(small)
    with torch.inference_mode():
        found = small(torch.rand(2, 3, 64, 64))
    assert found.std() > 0.1
    assert not torch.equal(found[0], found[1])
    assert all(parameter.std() > 0.01 for parameter in small.parameters() if parameter.ndim)


def test_the_full_matrix_gives_the_masks_of_the_neighbourhood() -> None:
    maps, first = tracking.inputs(tracking.Case("small", 14, 16, 24), frames=4)
    expected = torch.stack(list(tracking.full_matrix(maps, first)))
    assert expected[-1].std() > 0.1
    torch.testing.assert_close(torch.stack(list(tracking.propagate_stream(maps, first))), expected)
