"""The drawings of docs/method.md, as SVG: `python docs/drawings/draw.py` writes them beside this file.

Colours are variables of the style in each drawing. By itself it follows the reader's light or dark setting; in the site
docs/style.css sets them, so that it follows the site's own switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

WIDTH = 480
KEPT, CUT, INK, FAINT = "kept", "cut", "ink", "faint"
GAMMA = "\N{GREEK SMALL LETTER GAMMA}"
STYLE = """\
.drawing{--ink:#24292f;--faint:#afb8c1;--kept:#0072b2;--cut:#c2410c;--panel:#f6f8fa;font:13px system-ui,sans-serif}
@media(prefers-color-scheme:dark){
.drawing{--ink:#e6edf3;--faint:#6e7681;--kept:#58b0f0;--cut:#ff9d57;--panel:#21262d}}
.drawing text{fill:var(--ink)}.drawing .strong{font-weight:600}
.drawing .small{font-size:12px}.drawing .centred{text-anchor:middle}
.drawing .f-kept{fill:var(--kept)}.drawing .f-cut{fill:var(--cut)}.drawing .f-ink{fill:var(--ink)}
.drawing .f-faint{fill:var(--faint)}.drawing .f-panel{fill:var(--panel)}.drawing .f-none{fill:none}
.drawing .s-kept{stroke:var(--kept)}.drawing .s-cut{stroke:var(--cut)}.drawing .s-ink{stroke:var(--ink)}
.drawing .s-faint{stroke:var(--faint)}.drawing .dashed{stroke-dasharray:3 3}"""


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words that begin at x, or stand around it if `kind` has `centred`."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = INK, width: float = 1.5, kind: str = "") -> str:
    """A stroke."""
    places = f'x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"'
    return f'<line {places} stroke-width="{width:g}" class="s-{colour} {kind}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = INK, kind: str = "") -> str:
    """A stroke with a head, along one of the axes."""
    length = abs(x2 - x1) + abs(y2 - y1)
    dx, dy = (x2 - x1) / length * 6, (y2 - y1) / length * 6
    corners = ((x2, y2), (x2 - dx - dy / 2, y2 - dy + dx / 2), (x2 - dx + dy / 2, y2 - dy - dx / 2))
    points = " ".join(f"{x:g},{y:g}" for x, y in corners)
    return line(x1, y1, x2 - dx, y2 - dy, colour, kind=kind) + f'<polygon points="{points}" class="f-{colour}"/>'


def box(x: float, y: float, width: float, height: float, fill: str = "panel", stroke: str = INK, kind: str = "") -> str:
    """A rectangle."""
    size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2"'
    return f'<rect {size} class="f-{fill} s-{stroke} {kind}"/>'


def dot(x: float, y: float, radius: float, colour: str = KEPT) -> str:
    """A filled circle."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="f-{colour}"/>'


def gates() -> Iterator[str]:
    """Six channels with their gates: trained, while a penalty works, and after the cut."""
    sizes = (8.0, 3.5, 7.0, 6.0, 2.5, 7.5)
    panels = (
        ("1  trained", ("each channel has", f"a scaling factor {GAMMA}")),
        ("2  sparsify", ("a growing penalty drives", f"the chosen {GAMMA} to zero")),
        ("3  cut", ("gone from both layers;", "the output is the same")),
    )
    for number, (title, words) in enumerate(panels):
        left = 12 + 160 * number
        yield text(left, 18, title, "strong")
        for row, size in enumerate(sizes):
            y, chosen = 46 + 26 * row, row in (1, 4)
            if number == 2 and chosen:
                continue
            colour, radius = (CUT, 1.5) if number and chosen else (KEPT, size)
            kind = "dashed" if number and chosen else ""
            yield box(left, y - 8, 26, 16, stroke=CUT if kind else INK, kind=kind)
            yield line(left + 26, y, left + 96, y, CUT if kind else INK, kind=kind)
            yield dot(left + 58, y, radius, colour)
            yield box(left + 96, y - 8, 26, 16, stroke=CUT if kind else INK, kind=kind)
        yield text(left, 212, words[0], "small")
        yield text(left, 228, words[1], "small")


def blocks() -> Iterator[str]:
    """Two residual blocks on a stream of five channels, under each of the three residual rules."""
    everything = (0, 1, 2, 3, 4)
    rules = (
        ("rsc=false residual=aligned", "all blocks share one choice, and the stream narrows", (1, 3), ((0, 2, 4),) * 4),
        ("rsc=false residual=inner", "the stream is whole; only inside of blocks is cut", (), (everything,) * 4),
        ("rsc=true", "each block reads and writes channels of its own", (), ((0, 2, 3), (1, 4), (1, 2), (0, 3, 4))),
    )
    for number, (title, words, gone, touched) in enumerate(rules):
        top = 178 * number
        yield text(12, top + 18, title, "strong")
        yield text(12, top + 35, words, "small")
        for channel in everything:
            cut = channel in gone
            y = top + 52 + 11 * channel
            yield line(12, y, 460, y, CUT if cut else FAINT, 1.2 if cut else 2, "dashed" if cut else "")
        for block in (0, 1):
            yield from _block(60 + 210 * block, top, touched[2 * block], touched[2 * block + 1])


def _block(left: float, top: float, read: Sequence[int], written: Sequence[int]) -> Iterator[str]:
    """A block below the stream, whose second hidden channel is cut; dots are channels that it reads and writes."""
    right, floor = left + 130, top + 118
    for x, channels in ((left, read), (right, written)):
        yield line(x, top + 52 + 11 * min(channels), x, floor + 16, KEPT)
        for channel in channels:
            yield dot(x, top + 52 + 11 * channel, 3.5)
    yield arrow(left, floor + 16, left + 22, floor + 16, KEPT)
    yield line(right - 22, floor + 16, right, floor + 16, KEPT)
    yield box(left + 22, floor, 86, 32)
    yield text(left + 65, floor + 20, "conv  conv", "small centred")
    yield text(left - 4, floor + 44, "reads", "small")
    yield text(right - 28, floor + 44, "adds", "small")


def shuffle() -> Iterator[str]:
    """Eight filters that become two channels of twice the size, and what is left when two ways of cutting are used."""
    whole = ("A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4")
    single = ("A1", "A3", "B1", "B3")
    rows = (
        ("whole", "4 filters make the 2x2 pixels of a channel", whole, ()),
        ("a unit is cut: channel B with its 4 filters", "channel A is what it was", whole, whole[4:]),
        (
            "four single filters are cut: A2, A4, B2, B4",
            "the others move up, and make other pixels",
            single,
            single[1:],
        ),
    )
    for number, (title, words, filters, marked) in enumerate(rows):
        top, wrong = 118 * number, number == 2
        yield text(12, top + 18, title, "strong")
        yield text(12, top + 35, words, "small")
        for place, name in enumerate(filters):
            gone = name in marked and not wrong
            colour = CUT if name in marked else KEPT
            yield box(12 + 33 * place, top + 62, 29, 22, stroke=colour, kind="dashed" if gone else "")
            yield text(26.5 + 33 * place, top + 77.5, name, "small centred")
        yield arrow(284, top + 73, 316, top + 73)
        for channel in range(2):
            yield from _pixels(330 + 74 * channel, top + 48, filters[4 * channel : 4 * channel + 4], marked, wrong)


def _pixels(left: float, top: float, filters: Sequence[str], marked: Sequence[str], wrong: bool) -> Iterator[str]:
    """A channel's four pixels, and which filter made each; nothing if all of them are cut, or some are not there."""
    if len(filters) < 4 or (not wrong and set(filters) <= set(marked)):
        return
    for place, name in enumerate(filters):
        x, y = left + 26 * (place % 2), top + 26 * (place // 2)
        yield box(x, y, 26, 26, stroke=CUT if name in marked else KEPT)
        yield text(x + 13, y + 17, name, "small centred")


def temporal() -> Iterator[str]:
    """The dense and the pruned network on three frames, their hidden states held together."""
    yield text(12, 64, "dense", "strong")
    yield text(12, 81, "(teacher)", "small")
    yield text(12, 184, "pruned", "strong")
    yield text(12, 258, "truth", "strong")
    for frame, name in enumerate(("t-1", "t", "t+1")):
        left = 106 + 128 * frame
        yield text(left + 37, 18, f"frame {name}", "small centred")
        yield box(left, 36, 74, 46, stroke=INK)
        yield text(left + 37, 64, "h", "centred")
        yield box(left + 11, 158, 52, 42, stroke=KEPT)
        yield text(left + 37, 184, "ĥ", "centred")
        yield line(left + 37, 82, left + 37, 158, CUT, kind="dashed")
        yield text(left + 44, 124, "L_tf", "small")
        yield line(left + 37, 200, left + 37, 246, KEPT, kind="dashed")
        yield text(left + 44, 226, "L_rec", "small")
        yield text(left + 37, 258, "high", "small centred")
        if frame < 2:
            yield arrow(left + 74, 59, left + 128, 59)
            yield arrow(left + 63, 179, left + 139, 179, KEPT)


DRAWINGS: dict[str, tuple[int, str, Callable[[], Iterator[str]]]] = {
    "gates": (236, "A gate on every channel: trained, driven to zero, cut", gates),
    "blocks": (
        526,
        "Which channels of a stream two blocks read and write under three residual rules",
        blocks,
    ),
    "shuffle": (344, "Filters before a pixel shuffle: cut by units and one by one", shuffle),
    "temporal": (
        270,
        "Temporal fine-tuning holds the pruned network's hidden states to the dense network's",
        temporal,
    ),
}


def svg(name: str) -> str:
    """The file of a drawing."""
    height, title, parts = DRAWINGS[name]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" class="drawing" role="img">'
    return "\n".join((head, f"<title>{title}</title>", f"<style>{STYLE}</style>", *parts(), "</svg>", ""))


if __name__ == "__main__":
    for name in DRAWINGS:
        Path(__file__).with_name(f"{name}.svg").write_text(svg(name))
