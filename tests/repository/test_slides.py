"""Slides: of the notebooks that have slide tags, from their committed outputs, shown without a network."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from experiments.paths import ROOT

BOOK = ROOT / "notebooks" / "book"
TAGGED = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if '"slide_type": "slide"' in path.read_text()]
pytest.importorskip("sphinxcontrib.katex", reason="needs the packages of extra `site`")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages that the command of `make slides` writes, by notebook."""
    recipe = subprocess.run(["make", "-n", "slides"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = re.search(r"-m (nbconvert .*?\.ipynb)$", recipe.replace("\\\n", " "), flags=re.MULTILINE)
    folder = tmp_path_factory.mktemp("slides")
    arguments = [str(folder) if word == "build/slides" else word for word in command[1].split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {path.name.split(".")[0]: path.read_text(encoding="utf-8") for path in folder.glob("*.slides.html")}


def slides_of(page: str) -> list[str]:
    """What stands on each slide: text, and a word for each picture."""
    inside = page.split('<div class="slides">')[1].split('<script src="reveal.js')[0]
    found = []
    for slide in re.split(r"<section\b", inside)[1:]:
        shown = re.sub(r"<style.*?</style>", "", slide.split(">", 1)[1], flags=re.DOTALL)
        shown = re.sub(r"<img\b", "picture <img", shown)
        found.append(html.unescape(re.sub(r"<[^>]+>", " ", shown)).strip())
    return found


def test_two_notebooks_have_slides(slides: dict[str, str]) -> None:
    assert len(TAGGED) >= 2
    assert sorted(slides) == [path.stem for path in TAGGED]


@pytest.mark.parametrize("path", TAGGED, ids=lambda path: path.stem)
def test_every_slide_shows_something_and_no_code(path: Path, slides: dict[str, str]) -> None:
    kinds = [cell.metadata.slideshow.slide_type for cell in nbformat.read(path, 4).cells]
    assert set(kinds) <= {"slide", "subslide", "fragment", "-", "skip", "notes"}
    shown = [text for text in slides_of(slides[path.stem]) if text]
    assert len(shown) == kinds.count("slide") + kinds.count("subslide")
    assert all(len(text) > 3 for text in shown)
    assert "import matplotlib" not in slides[path.stem]


@pytest.mark.parametrize("path", TAGGED, ids=lambda path: path.stem)
def test_a_slide_without_a_heading_has_that_of_its_place(path: Path, slides: dict[str, str]) -> None:
    places, heading = [], ""
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)][-1]
        if cell.metadata.slideshow.slide_type in ("slide", "subslide"):
            places.append(heading)
    said = re.search(r"const headings = (\[.*\]);", slides[path.stem])
    assert json.loads(said[1]) == places


def test_slides_ask_no_other_host_for_anything(slides: dict[str, str]) -> None:
    for name, page in slides.items():
        head_and_foot = re.sub(
            r'<div class="slides">.*?<script src="reveal', '<script src="reveal', page, flags=re.DOTALL
        )
        assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)\"", page), name
        named = re.findall(r"(?:src|href)=\"reveal\.js/([^\"]+)\"", head_and_foot)
        assert {"dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "katex.min.js"} <= set(named)
        shipped = [part for part in named if not part.startswith("katex")]
        assert [part for part in shipped if not (BOOK / "slides/reveal.js" / part).is_file()] == []
        assert "https://" not in (BOOK / "slides/reveal.js/dist/theme/white.css").read_text(encoding="utf-8")
