"""`midsight data`: make data sets for training, and look through them before they are trained on."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import data_documents, options, show

if TYPE_CHECKING:
    from midsight.data.engine import Captioner
    from midsight.data.stream import Item

PLM = "plm:"  # before a captioner that is a model of that family

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make and check data sets for training.",
)


_Work = Annotated[Path, typer.Option("--work", help="Where packages are downloaded and unpacked to.")]


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="emoji, clip-art, furniture, open-moji (only to measure), or documents.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of what is built.", show_default=False)],
    work: _Work = Path("runs/data"),
    evaluation: Annotated[
        bool, typer.Option("--evaluation", help="Also build what is for measuring only, marked as such.")
    ] = False,
    per_shard: Annotated[int, typer.Option("--per-shard", help="Samples in each shard.", min=1)] = 1000,
    count: data_documents.Count = None,
    kinds: data_documents.Kinds = None,
    seed: data_documents.Seed = None,
    sides: data_documents.Sides = None,
    min_text: data_documents.MinText = None,
    fonts: data_documents.OwnFonts = None,
    workers: data_documents.Workers = None,
) -> None:
    """Open pictures out of packages as webdataset shards, with licences and authors; or made-up documents.

    Each sample has its terms in its .json, and ATTRIBUTION.txt lists them all. Stopped, the same command goes on.

    `documents` are pages, tables, invoices, forms, charts, infographics and cards with exact questions and answers, as
    JSONL that trains a vision-language model. They need the extra `documents`.

    Example: midsight data build emoji --out data/emoji

    Example: midsight data build documents --out data/documents --count 10000
    """
    from midsight.data import build as builder

    own = data_documents.Options(count, kinds, seed, sides, min_text, fonts, workers)
    if name == "documents":
        data_documents.build(out, work, own)
        return
    own.refuse(name)
    with show.progress() as bar:
        task = bar.add_task(f"build {name}", total=None)
        built = builder.build(
            name, out, work, evaluation=evaluation, per_shard=per_shard,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    for picture, why in built.failures.items():
        show.warn(f"{picture} is left out: {why}")
    show.note(f"{out}: {built.samples} samples in {len(built.shards)} shards; terms in {out / builder.ATTRIBUTION}")


@app.command()
def scenes(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the shards.", show_default=False)],
    count: Annotated[int, typer.Option("--count", help="How many scenes.", min=1)] = 1000,
    clips: Annotated[bool, typer.Option("--clips", help="Clips with motion instead of pictures.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same scenes.", min=0)] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of the picture in pixels.", min=32)] = 224,
    work: _Work = Path("runs/data"),
    per_shard: Annotated[int, typer.Option("--per-shard", help="Samples in each shard.", min=1)] = 256,
) -> None:
    """Render captioned scenes of furniture as webdataset shards, with boxes, masks, depth and tracks.

    Needs the extra `scenes` and EGL. Stopped, the same command goes on.

    Example: midsight data scenes --out data/scenes --count 2000
    """
    from midsight.data.scenes import SceneOptions, write

    stock = write.packaged_stock(work)
    with show.progress() as bar:
        task = bar.add_task("render", total=count)
        built = write.build_scenes(
            out, count, seed, stock=stock, clips=clips, options=SceneOptions(size=size), per_shard=per_shard,
            progress=lambda done: bar.update(task, completed=done),
        )  # fmt: skip
    for reason, number in built.failures.items():
        show.warn(f"{number} scenes are left out: {reason}")
    for model, reason in built.unreadable_models.items():
        show.warn(f"{model} cannot be used: {reason}")
    show.note(f"{out}: {built.samples} samples in {len(built.shards)} shards; terms in {out / 'ATTRIBUTION.txt'}")


@app.command()
def folders(
    path: Annotated[Path, typer.Argument(help="Rendered pictures: shard or folder of shards.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; other splits in it stay.", show_default=False)],
    split: Annotated[
        str, typer.Option("--split", help="Name of the part; training and validation are what training reads.")
    ] = "training",
) -> None:
    """Write rendered scenes as folders for dense training: pictures, label maps, depth, boxes in COCO's format.

    `midsight train segment segment_scenes`, `depth depth_scenes` and `detect detect_scenes` read them.

    Example: midsight data folders data/scenes --out data/dense
    """
    from midsight.data.scenes.folders import write_folders

    with show.progress() as bar:
        task = bar.add_task("pictures", total=None)
        count = write_folders(path, out, split, lambda done: bar.update(task, completed=done))
    show.note(f"{out}: {count} pictures as {split}; classes in {out / 'classes.json'}, boxes in {out / split}.json")


@app.command()
def caption(
    path: Annotated[Path, typer.Argument(help="Videos: shard or folder of shards, table, or folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the captioned shards.", show_default=False)],
    captioner: Annotated[
        str,
        typer.Option(
            "--captioner",
            help="scenes (rendered clips tell it themselves), plm:FOLDER or plm:REPOSITORY (a PerceptionLM), or "
            "MODULE:NAME of your own.",
        ),
    ] = "scenes",
    edits: Annotated[
        Path | None, typer.Option("--edits", help="JSONL of people's captions and removals.", show_default=False)
    ] = None,
    frames: Annotated[int, typer.Option("--frames", help="Frames that are captioned in each clip.", min=2)] = 8,
    max_words: Annotated[int, typer.Option("--max-words", help="Longest merged caption.", min=1)] = 60,
    device: options.Device = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of a PLM: fp32 or bf16; auto is fp32 on a CPU and as stored elsewhere.")
    ] = "auto",
) -> None:
    """Caption videos: frames and clips by a captioner, merged to one short caption, with people's edits.

    Stopped, the same command goes on; with other edits, only merging and writing are done again. A line of edits is
    {"key": ..., "caption": ...} or {"key": ..., "remove": true}. MODULE:NAME is imported, so name only code you trust.

    Example: midsight data caption data/clips --out data/captioned --edits edits.jsonl

    Example: midsight data caption videos/ --out data/captioned --captioner plm:facebook/Perception-LM-1B
    """
    from midsight.data import engine
    from midsight.data.datasets import open_dataset

    dataset = open_dataset(path, needs_captions=False)
    chosen = _captioner(captioner, device, dtype)
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "captions.jsonl"
    with show.progress() as bar:
        task = bar.add_task("caption", total=None)
        skipped, examples = engine.caption_clips(
            dataset, chosen, journal, num_frames=frames, progress=lambda done: bar.update(task, completed=done)
        )
    for reason, number in skipped.most_common():
        show.warn(f"{number} left out: {reason} ({examples[reason]})")
    made = engine.write_captioned(dataset, journal, out, edits=edits, max_words=max_words)
    if made.unused_edits:
        show.warn(f"{len(made.unused_edits)} edits are of no clip here: {', '.join(made.unused_edits[:5])}")
    show.note(f"{out}: {made.samples} clips, {made.edited} captions by people, {made.removed} taken out by people")
    if skipped:
        raise typer.Exit(1)


def _captioner(name: str, device: str, dtype: str) -> "Captioner":
    from midsight.data.engine import find_captioner

    if not name.startswith(PLM):
        return find_captioner(name)
    with show.status(f"loading {name.removeprefix(PLM)}"):
        from midsight.api.captioning import open_captioner

        return open_captioner(name.removeprefix(PLM), device, dtype)


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(help="Shard or folder of shards, .csv, .tsv, .jsonl, or a folder of pictures.")
    ],
    frames: Annotated[int, typer.Option("--frames", help="Read clips of so many frames; 0: pictures.", min=0)] = 0,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Also decode the pixels.")] = True,
    workers: Annotated[int, typer.Option("--workers", help="Threads that read.", min=1)] = 2,
    as_json: options.Json = False,
) -> None:
    """Read a data set as training would, once, and count what would be left out and why.

    Exit code 1 where anything is left out.

    Example: midsight data check pairs.csv
    """
    from midsight.data.datasets import EVALUATION_MARK, open_dataset
    from midsight.data.samples import UnusableError
    from midsight.data.stream import Order

    dataset = open_dataset(path, evaluation=True)
    stream = dataset.stream(partial(_look, frames, decode), Order(shuffle=False), epochs=1, workers=workers)
    with show.progress() as bar:
        task = bar.add_task("check", total=None)
        words = 0
        with suppress(UnusableError):  # the counts say the same
            for count in stream:
                words += count
                bar.update(task, completed=stream.taken)
    if as_json:
        show.json_line(
            {
                "path": str(path), "samples": stream.taken, "skipped": dict(stream.skipped),
                "examples": stream.examples, "parts": len(dataset.parts), "fingerprint": dataset.fingerprint,
            }
        )  # fmt: skip
    else:
        mean = f", {words / stream.taken:.1f} words a caption" if stream.taken else ""
        show.note(f"{path}: {stream.taken} samples in {len(dataset.parts)} parts{mean}")
        rows = [(number, reason, stream.examples[reason]) for reason, number in stream.skipped.most_common()]
        if rows:
            show.table(("left out", "reason", "first of them"), rows, right=("left out",))
        if ((path if path.is_dir() else path.parent) / EVALUATION_MARK).exists():
            show.warn("marked for evaluation only: training refuses it")
    if stream.skipped:
        raise typer.Exit(1)


def _look(frames: int, decode: bool, item: "Item") -> int:
    """Words of the caption of a sample that can be used."""
    from midsight.data.loader import decode_clip, decode_image

    sample = item.read()
    if decode and frames:
        decode_clip(sample, frames)
    elif decode:
        decode_image(sample)
    return len(sample.caption.split())
