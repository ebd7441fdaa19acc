#!/usr/bin/python3
"""Draw what bench/balloon.py found: an SVG of its JSON lines.

	bench/draw.py BALLOON.jsonl --output=BALLOON.svg

It also prints them as tables, for docs/performance.md.

Bars on a logarithmic scale, a group for each case: inflating on the left, deflating
on the right, with the same length for a factor of ten.  A thin line goes from the
least to the most of the rounds.  The drawing brings its own background.
"""

import argparse
import json
import math
from collections import namedtuple
from pathlib import Path
from xml.sax.saxutils import escape

GIB = 1 << 30

#: key of the figure, colour, words of the legend
Bar = namedtuple("Bar", "key colour words")

INFLATE = (
    Bar("stock_ms", "#9aa3af", "stock driver, page by page"),
    Bar("merged_ms", "#4f83c4", "stock driver, runs merged"),
    Bar("umbra_ms", "#d9642a", "umbra's driver and device"),
    Bar("raw_punch_ms", "#2f855a", "fallocate alone: the limit"),
)
DEFLATE = tuple(Bar(f"deflate_{bar.key}", bar.colour, bar.words) for bar in INFLATE[:3])

#: What a case means, below its name.
MEANINGS = {
    "idle-4k": "never touched",
    "touched-4k": "touched, small pages",
    "touched-huge": "touched, huge pages",
    "fragmented-4k": "every other 64 KiB in use",
}

# Pixels.
WIDTH, MARGIN = 1000, 24
LEFT = 190              # of the first panel: the names of the cases are before it
GAP = 104               # between the panels, and behind the last: for figures
TOP = 128               # of the first group
BAR, STEP, GROUP = 13, 17, 92
LEAST = 0.01            # ms; what is measured as less, or below nothing, is drawn as that
INK, FAINT, LINE, PAPER = "#1f2933", "#5f6b7a", "#dfe3e8", "#fcfcfa"

FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"


class Scale:
    """A panel: decades of milliseconds from `low` to `high`, from pixel x on."""

    def __init__(self, values):
        self.low = math.floor(math.log10(max(min(values), LEAST)))
        self.high = math.ceil(math.log10(max(values)))
        self.x, self.decade = 0, 0

    def decades(self):
        return self.high - self.low

    def at(self, ms):
        return self.x + (math.log10(max(ms, LEAST)) - self.low) * self.decade

    def end(self):
        return self.x + self.decades() * self.decade


def text(x, y, words, size=12, colour=INK, anchor="start", weight="normal", behind=""):
    """Words; an outline of the paper's colour keeps lines away from them.  Behind
    them, others in bold."""
    if behind:
        behind = f'<tspan dx="10" font-weight="bold">{escape(behind)}</tspan>'
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}" font-weight="{weight}" stroke="{PAPER}" '
            f'stroke-width="3" paint-order="stroke">{escape(words)}{behind}</text>')


def rectangle(x, y, width, height, colour, more=""):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colour}" {more}/>')


def line(x1, y1, x2, y2, colour, width=1.0):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>')


def digits(value):
    """Behind the point, for three in all."""
    return min(3, max(0, 2 - math.floor(math.log10(value))))


def duration(ms):
    value, unit = (ms / 1000, "s") if ms >= 1000 else (ms, "ms")
    return f"{value:.{digits(value)}f} {unit}"


def tick(power):
    return f"{10 ** (power - 3):g} s" if power >= 3 else f"{10 ** power:g} ms"


def size(bytes_):
    return f"{bytes_ / GIB:g} GiB"


def rounds(cases):
    counts = [case["rounds"] for case in cases]
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def draw_axis(scale, title, bottom):
    out = [text(scale.x, TOP - 34, title, 13, weight="bold")]
    for power in range(scale.low, scale.high + 1):
        x = scale.at(10 ** power)
        out += [line(x, TOP - 6, x, bottom, LINE),
                text(x, TOP - 13, tick(power), 10.5, FAINT, "middle"),
                text(x, bottom + 15, tick(power), 10.5, FAINT, "middle")]
    return out


def draw_bar(scale, case, bar, y):
    ms, (least, most) = case[bar.key], case["ranges"][bar.key]
    middle = y + BAR / 2
    behind = ""
    if bar.key.endswith("umbra_ms"):
        ratio = case[bar.key.replace("umbra", "stock")] / ms
        behind = f"{ratio:.{0 if ratio >= 10 else 1}f} times faster"
    return [rectangle(scale.x, y, scale.at(ms) - scale.x, BAR, bar.colour, 'rx="2"'),
            line(scale.at(least), middle, scale.at(most), middle, INK),
            *(line(scale.at(ms_), middle - 3, scale.at(ms_), middle + 3, INK)
              for ms_ in (least, most)),
            text(scale.at(max(ms, most)) + 6, middle + 4, duration(ms), 11,
                 behind=behind)]


def draw_legend():
    out, x = [], MARGIN
    for bar in INFLATE:
        out += [rectangle(x, 51, 12, 12, bar.colour, 'rx="2"'),
                text(x + 18, 61, bar.words, 11.5)]
        x += 18 + 7.0 * len(bar.words) + 20
    return out


def draw(cases):
    inflate = Scale([ms for case in cases for bar in INFLATE
                     for ms in case["ranges"][bar.key]])
    deflate = Scale([ms for case in cases for bar in DEFLATE
                     for ms in case["ranges"][bar.key]])
    decade = (WIDTH - LEFT - MARGIN - 2 * GAP) / (inflate.decades() + deflate.decades())
    inflate.decade = deflate.decade = decade
    inflate.x = LEFT
    deflate.x = inflate.end() + GAP
    bottom = TOP + GROUP * len(cases) - (GROUP - len(INFLATE) * STEP) + 8
    height = bottom + 32

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" font-family="{FONT}" role="img" '
           'aria-label="Time to inflate and to deflate a balloon">',
           rectangle(0.5, 0.5, WIDTH - 1, height - 1, PAPER, f'stroke="{LINE}" rx="8"'),
           text(MARGIN, 33, f"{size(max(case['bytes'] for case in cases))} of a guest of "
                f"{size(cases[0]['guest_bytes'])}: to the host, and back", 17,
                weight="bold"),
           text(WIDTH - MARGIN, 33, f"medians of {rounds(cases)} rounds; thin lines: "
                "least to most; shorter is better", 10.5, FAINT, "end"),
           *draw_legend(),
           *draw_axis(inflate, "to the host", bottom),
           *draw_axis(deflate, "back to the guest", bottom)]
    for number, case in enumerate(cases):
        top = TOP + number * GROUP
        out += [text(MARGIN, top + 18, case["case"], 13.5, weight="bold"),
                text(MARGIN, top + 35, size(case["bytes"]), 11, FAINT),
                text(MARGIN, top + 51, MEANINGS.get(case["case"], ""), 11, FAINT)]
        for scale, bars in ((inflate, INFLATE), (deflate, DEFLATE)):
            for row, bar in enumerate(bars):
                out += draw_bar(scale, case, bar, top + row * STEP)
    return "\n".join([*out, "</svg>"]) + "\n"


def figure(value):
    return f"{value:,.{digits(value)}f}"


def table(names, rows):
    """In Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (names, ["---"] * len(names), *rows))


def tables(cases):
    return "\n".join((
        table(["to the host, ms", "stock", "merged", "umbra", "fallocate", "stock / umbra",
               "least to most of a round", "umbra / fallocate"],
              [[case["case"], *(figure(case[bar.key]) for bar in INFLATE),
                figure(case["stock_over_umbra"]),
                " to ".join(figure(case["stock_over_umbra_by_round"][i]) for i in (0, 2)),
                f"{case['umbra_over_raw_punch']:.2f}"] for case in cases]),
        table(["back to the guest, ms", "stock", "merged", "umbra", "stock / umbra"],
              [[case["case"], *(figure(case[bar.key]) for bar in DEFLATE),
                figure(case["deflate_stock_over_umbra"])] for case in cases]),
        table(["umbra to the host, ms", *cases[0]["stages_ms"], "all", "messages",
               "of stock", "discards", "of stock"],
              [[case["case"], *(figure(ms) for ms in case["stages_ms"].values()),
                figure(case["umbra_ms"]),
                *(f"{case[what][side]:,.0f}" for what in ("messages", "discards")
                  for side in ("umbra", "stock"))] for case in cases])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path, help="the output of bench/balloon.py")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    cases = [json.loads(text_) for text_ in options.lines.read_text().splitlines()]
    if not cases:
        parser.error(f"{options.lines} has no lines, expected one for each case")
    options.output.write_text(draw(cases))
    print(tables(cases), end="")


if __name__ == "__main__":
    main()
