"""HTML pages about a whole collection: duplicates, and clusters with a map; nothing outside the file is needed."""

import base64
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from midsight.library.index.clusters import Cluster, Member
from midsight.library.index.duplicates import Copy, Group
from midsight.library.index.preview import try_thumbnail
from midsight.library.sheet import STYLE

SIDE = 192  # pixels of a thumbnail
MOST_PICTURES = 600  # of one page: about 6 MB
SHOWN = 12  # of one cluster or group
_STYLE = """
.strip { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.strip figure { margin: 0; background: var(--card); border-radius: .5rem; overflow: hidden; }
.strip a { color: inherit; text-decoration: none; } .strip a:focus-visible { outline: 3px solid var(--bar); }
.strip img, .strip .none { display: block; width: 100%; height: 8rem; object-fit: cover; background: #8882; }
.strip figcaption { padding: .35rem .5rem; overflow-wrap: anywhere; } .keep { border-bottom: 3px solid var(--bar); }
svg.map { width: 100%; height: auto; background: var(--card); border-radius: .6rem; }
svg.map circle:hover { stroke: var(--ink); stroke-width: 3; } h2 i { display: inline-block; width: .8rem; height: .8rem;
  border-radius: 50%; margin-right: .4rem; }
"""
_MAP = (1000, 620)  # units of the map's drawing
_GOLDEN = 137.508  # degrees: hues of neighbours in the list lie far apart


def duplicates_page(root: Path, groups: Sequence[Group]) -> str:
    """Groups of files that show the same, the one to keep first."""
    room = _Room()
    spare = sum(group.spare for group in groups)
    files = sum(len(group.copies) for group in groups)
    body = [
        f"<p>{len(groups)} groups of {files} files; {_size(spare)} in all but the first of each group. Nothing was "
        "changed. The first of a group has most pixels, then most bytes.</p>"
    ]
    for number, group in enumerate(groups, start=1):
        figures = "".join(_copy_figure(copy, first=not i, room=room) for i, copy in enumerate(group.copies[:SHOWN]))
        body.append(f"<h2>Group {number}</h2><div class='strip'>{figures}</div>{_more(group.copies)}")
    return _page(f"Duplicates in {_name(root)}", "".join(body))


def clusters_page(root: Path, clusters: Sequence[Cluster]) -> str:
    """Clusters with their most typical members, below a map of all."""
    room = _Room()
    rows = sum(len(cluster.members) for cluster in clusters)
    body = [
        f"<p>{rows} entries in {len(clusters)} clusters, the largest first. On the map, what looks alike lies close "
        f"together (t-SNE); a point opens its file.</p>{_drawn(clusters)}"
    ]
    for number, cluster in enumerate(clusters):
        title = ", ".join(cluster.names) or f"Cluster {number + 1}"
        figures = "".join(_member_figure(member, room) for member in cluster.members[:SHOWN])
        body.append(
            f"<h2 id='c{number}'><i style='background:{_colour(number)}'></i>{html.escape(title)} "
            f"<span class='quiet'>{len(cluster.members)}</span></h2><div class='strip'>{figures}</div>"
            f"{_more(cluster.members)}"
        )
    return _page(f"Clusters of {_name(root)}", "".join(body))


class _Room:
    """How many pictures a page may still hold."""

    def __init__(self) -> None:
        self.left = MOST_PICTURES

    def picture(self, entry: Copy | Member) -> str:
        data = None
        if self.left:
            self.left -= 1
            data = try_thumbnail(entry.file, entry.kind, entry.start, entry.page, SIDE)
        if data is None:
            return '<span class="none"></span>'
        alt = html.escape(entry.path, quote=True)
        return f'<img alt="{alt}" loading="lazy" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def _copy_figure(copy: Copy, first: bool, room: _Room) -> str:
    likeness = "keep" if first else "same bytes" if copy.equal else f"{copy.similarity:.3f}"
    return _figure(copy, room, f"{likeness}, {_size(copy.size)}", "keep" if first else "")


def _member_figure(member: Member, room: _Room) -> str:
    return _figure(member, room, f"{member.similarity:.2f}")


def _figure(entry: Copy | Member, room: _Room, note: str, style: str = "") -> str:
    where = f", {_place(entry)}" if _place(entry) else ""
    return (
        f'<figure class="{style}"><a href="{_link(entry)}">{room.picture(entry)}<figcaption>'
        f"{html.escape(entry.path)}{where}<br>{html.escape(note)}</figcaption></a></figure>"
    )


def _drawn(clusters: Sequence[Cluster]) -> str:
    """The map as SVG; each point is a link with the file's name."""
    width, height = _MAP
    points = []
    for number, cluster in enumerate(clusters):
        for member in cluster.members:
            if member.x is not None and member.y is not None:
                x, y = 20 + member.x * (width - 40), 20 + member.y * (height - 40)
                points.append(
                    f'<a href="{_link(member)}" tabindex="-1"><circle cx="{x:.1f}" cy="{y:.1f}" r="5" '
                    f'fill="{_colour(number)}"><title>{html.escape(member.path)}</title></circle></a>'
                )
    return (
        f'<svg class="map" viewBox="0 0 {width} {height}" role="img" aria-label="Map of {len(points)} entries">'
        f"{''.join(points)}</svg>"
    )


def _place(entry: Copy | Member) -> str:
    if entry.page is not None:
        return f"page {entry.page}"
    return f"{int(entry.start) // 60}:{int(entry.start) % 60:02d}" if entry.start else ""


def _link(entry: Copy | Member) -> str:
    place = f"#t={entry.start:g}" if entry.start else f"#page={entry.page}" if entry.page else ""
    return html.escape(entry.file.absolute().as_uri() + place, quote=True)


def _more(entries: Sequence[object]) -> str:
    return f"<p class='quiet'>and {len(entries) - SHOWN} more</p>" if len(entries) > SHOWN else ""


def _colour(number: int) -> str:
    return f"hsl({number * _GOLDEN % 360:.0f} 60% 50%)"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _name(root: Path) -> str:
    return os.fsencode(root.resolve().name).decode("utf-8", "backslashreplace")


def _page(title: str, body: str | Iterable[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{_STYLE}</style>'
        f"<h1>{html.escape(title)}</h1>{body}</html>\n"
    )
