"""Recorded games to step through: pictures of each step, a slider and two buttons, in one piece of HTML.

It needs no network, no kernel and no widgets: what a notebook shows is what a hosted page shows. Where scripts do not
run, the first picture stands still, and the strip that a notebook draws beside it has to do.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from IPython.display import HTML
from PIL import Image

LIMIT = 200_000  # bytes of one player: notebooks hold several
_PAGE = """\
<figure id="{name}" style="margin:0;max-width:{width}px">
<div class="shown" role="img" style="background:#fff;color:#222" aria-label="{alt}">{first}</div>
<figcaption style="min-height:3em"><span class="said" aria-live="polite">{said}</span></figcaption>
<div class="moves"></div>
</figure>
<script>(function () {{
const frames = {frames}, captions = {captions}, alt = {alt_text};
const figure = document.getElementById("{name}"), find = (name) => figure.querySelector(name);
if (find("input")) return;
find(".moves").innerHTML = '<button type="button" aria-label="one back">&#9664;</button> ' +
  '<input type="range" min="0" max="{last}" value="0" style="width:60%" aria-label="{slider}"> ' +
  '<button type="button" aria-label="one on">&#9654;</button>';
const slider = find("input"), [back, on] = figure.querySelectorAll("button");
function show(at) {{
  slider.value = at;
  find(".shown").innerHTML = frames[slider.value];
  find(".said").innerHTML = captions[slider.value];
  find(".shown").setAttribute("aria-label", alt + ": " + find(".said").textContent);
}}
slider.oninput = () => show(slider.value);
back.onclick = () => show(+slider.value - 1);
on.onclick = () => show(+slider.value + 1);
}})();</script>
"""


def as_markdown(text: str) -> str:
    """Text that Markdown and HTML show as it is: a player may write links, tables or tags."""
    return "".join(mark if mark.isalnum() or mark in " .,!?'" else f"&#{ord(mark)};" for mark in text)


def player(
    name: str, frames: Sequence[str], captions: Sequence[str], alt: str, slider: str = "step", width: int = 360
) -> HTML:
    """A player of recorded steps, under a `name` of letters and dashes that no other has on a page.

    `frames` are pictures as HTML (`svg`, `picture`), `captions` plain text; `alt` says what is played, for who cannot
    see it, `slider` what the slider counts. ValueError for no frame, another number of captions, or more than LIMIT
    bytes.
    """
    if not frames or len(frames) != len(captions):
        raise ValueError(f"captions must be one for each frame, got {len(captions)} for {len(frames)}")
    said = [escape(text) for text in captions]
    values = {"frames": frames, "captions": said, "alt_text": alt}
    data = {key: json.dumps(value).replace("</", "<\\/") for key, value in values.items()}  # no text ends the script
    page = _PAGE.format(
        name=name, width=width, last=len(frames) - 1, first=frames[0], said=said[0],
        alt=escape(f"{alt}: {captions[0]}"), slider=escape(slider), **data,
    )  # fmt: skip
    if len(page) > LIMIT:
        raise ValueError(f"frames must take at most {LIMIT:,} bytes, got {len(page):,}: show fewer or smaller ones")
    return HTML(page)


def svg(width: float, height: float, shapes: Sequence[str], pixels: int = 240) -> str:
    """A drawing of `shapes` (SVG elements) on a ground of width x height units, so many pixels wide."""
    size = f'width="{pixels}" height="{round(pixels * height / width)}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(shapes)}</svg>'


def picture(image: np.ndarray, pixels: int = 240) -> str:
    """An RGB array `(rows, columns, 3)` in uint8 as a picture within the page, with at most 32 colours."""
    written = BytesIO()
    Image.fromarray(image).quantize(32, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    source = f"data:image/png;base64,{b64encode(written.getvalue()).decode()}"
    return f'<img width="{pixels}" alt="" style="image-rendering:pixelated" src="{source}">'
