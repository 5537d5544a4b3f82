"""Text tower: how fast do short captions become embeddings?"""

import gc
import sys
import tempfile
from itertools import product
from pathlib import Path

import open_clip
import torch

from benchmarks import machine, twins
from benchmarks.captions import CAPTIONS, DOINGS, SUBJECTS
from benchmarks.common import against_best, beside, check_same, fresh, least_cosine, ratio, relative_error, verdict
from benchmarks.names import OPEN_CLIP_NAMES
from benchmarks.report import Section
from benchmarks.twins import BF16, Twins
from midsight.tasks.zero_shot import build_classifier, get_templates
from midsight.transforms import get_text_tokenizer

CASES = (  # S has the text tower of T; the goal is for fp32
    ("PE-Core-T16-384", "fp32", 4.0),
    ("PE-Core-T16-384", "bf16", None),
    ("PE-Core-B16-224", "fp32", 4.0),
)
ROUNDS = 11
NAMES = sorted(f"{subject} {doing}".strip() for subject, doing in product(SUBJECTS, DOINGS))
TEMPLATES, CLASSIFIER_ROUNDS = 8, 3  # the first of ImageNet's 80
INTRO = (
    "Token ids to embeddings, 16 captions at once, context 32. open_clip computes all 32 places of every text (its "
    "mask takes no shorter ones); midsight leaves out what follows the end token, which the causal mask keeps from "
    "mattering, and computes what all texts begin with once, so that fp32 stays exact. The classifier is "
    "`midsight.tasks.zero_shot.build_classifier` beside `open_clip.build_zero_shot_classifier`, from names to columns. "
    "Error: largest relative error of an embedding in fp32, lowest cosine to open_clip's fp32 in bf16. The goal is for "
    "fp32 against open_clip."
)


def run() -> Section:
    """Both text towers, both precisions."""
    machine.pin()
    section = Section("Text tower", INTRO)
    captions = CAPTIONS[:16]
    pair = Twins("")
    for name, precision, goal in CASES:
        if name != pair.name:
            pair = Twins(name)
            tokens = open_clip.get_tokenizer(OPEN_CLIP_NAMES[name])(captions)
            pair.check_texts(tokens)
        row = measure(pair, precision, goal, tokens)
        section.rows.append(row)
        print(row, file=sys.stderr, flush=True)
        gc.collect()  # packed towers refer to themselves
    section.rows.append(classifier())
    lengths = (tokens.argmax(dim=-1) + 1).float()
    section.notes.append(
        f"Captions have {lengths.mean():.1f} tokens on average with both marks, {lengths.max():.0f} at most. "
        "Peak memory is that of a process that reads the pair from a file and embeds them."
    )
    return section


def measure(pair: Twins, precision: str, goal: float | None, tokens: torch.Tensor) -> dict[str, str]:
    """One row of the table."""
    theirs = pair.open_clip.encode_text
    calls = {
        "midsight": twins.inference(pair.packed(torch.float32 if precision == "fp32" else BF16).encode_text, tokens)
    }
    if precision == "fp32":
        calls["open_clip"] = twins.inference(theirs, tokens)
    else:
        calls["open_clip bf16 weights"] = twins.inference(twins.in_bf16(pair.open_clip).encode_text, tokens)
        calls["open_clip autocast"] = twins.autocast(theirs, tokens)
        calls["open_clip fp32"] = twins.inference(theirs, tokens)
    times, _, remark = machine.probed(calls, torch.float32 if precision == "fp32" else BF16, ROUNDS)
    found = against_best(times, "midsight", [who for who in calls if who != "midsight"])
    expected, ours = twins.inference(theirs, tokens)(), calls["midsight"]()
    exact = precision == "fp32"
    return {
        "Case": f"text of {pair.name.removeprefix('PE-Core-')}, {precision}",
        "Speed": f"{found}{remark}",
        "Goal": verdict(found, goal),
        "Per caption": beside(times, "midsight", found.than, len(tokens)),
        "Error": f"{relative_error(ours, expected):.1e}" if exact else f"cosine {least_cosine(ours, expected):.6f}",
        "Peak memory": memory(pair, precision),
    }


def classifier() -> dict[str, str]:
    """Names in templates to a zero-shot classifier: `build_classifier` beside open_clip's own function."""
    pair, templates = Twins("PE-Core-T16-384"), get_templates("imagenet1k")[:TEMPLATES]
    encode, ours = pair.packed(torch.float32).encode_text, get_text_tokenizer(pair.ours.context_length)
    theirs = open_clip.get_tokenizer(OPEN_CLIP_NAMES[pair.name])

    def build() -> torch.Tensor:
        return build_classifier(lambda texts: encode(ours(texts)), NAMES, templates)

    def peer() -> torch.Tensor:
        usual = [template.replace("{c}", "{}") for template in templates]
        return open_clip.build_zero_shot_classifier(pair.open_clip, theirs, NAMES, usual)

    calls = {"midsight": twins.inference(build), "open_clip": twins.inference(peer)}
    found, expected = calls["midsight"]().T, calls["open_clip"]().T
    check_same(found, expected, "classifiers")
    times, _, remark = machine.probed(calls, torch.float32, CLASSIFIER_ROUNDS)
    row = {
        "Case": f"classifier of {len(NAMES)} names in {TEMPLATES} templates, T16-384, fp32",
        "Speed": f"{ratio(times['midsight'], times['open_clip'], 'open_clip')}{remark}",
        "Goal": "-",
        "Per caption": beside(times, "midsight", "open_clip", len(NAMES) * TEMPLATES),
        "Error": f"{relative_error(found, expected):.1e}",
        "Peak memory": "-",
    }
    print(row, file=sys.stderr, flush=True)
    return row


def memory(pair: Twins, precision: str) -> str:
    """Peaks of midsight and open_clip, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        pair.save(Path(folder))
        peaks = [
            fresh(f"benchmarks.child:texts_{who}", folder, pair.name, precision, CAPTIONS[:16]).peak
            for who in ("midsight", "open_clip")
        ]
    return f"{peaks[0]:.0f} MB (open_clip {peaks[1]:.0f} MB)"
