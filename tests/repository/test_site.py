"""The site as a reader with a small screen and no network sees it: built by Sphinx, opened in headless Chromium."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments.paths import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
pytest.importorskip("myst_nb", reason="needs the packages of extra `site`")

COLLECT = """<script>
window.problems = [];
addEventListener('error', e => problems.push('not loaded: ' + (e.target.src || e.target.href || e.message)), true);
console.error = (...words) => problems.push('console: ' + words.join(' '));
</script>"""
LOOK = """<!doctype html><iframe id=page width=400 height=800 style="border: 0"></iframe><pre id=result></pre><script>
const wait = milliseconds => new Promise(go => setTimeout(go, milliseconds));
(async () => {
  const found = {}, frame = document.getElementById('page');
  for (const page of PAGES) {
    await new Promise(loaded => { frame.onload = loaded; frame.src = page; });
    await wait(500);
    const inside = frame.contentDocument, root = inside.documentElement;
    const maths = [...inside.querySelectorAll('.math')];
    found[page] = {
      problems: frame.contentWindow.problems,
      overflow: root.scrollWidth - root.clientWidth,
      formulas: maths.length,
      unrendered: maths.filter(node => !node.querySelector('math') || node.querySelector('p')) // p: text swallowed
        .map(node => node.textContent),
      faulty: [...inside.querySelectorAll('.math merror, .katex-error')].map(node => node.textContent),
      unnamed: [...inside.querySelectorAll('article img')]
        .map(image => (image.closest('[role=img]')?.ariaLabel ?? image.alt).trim())
        .filter(text => !text || text.endsWith('.png')).length,
      captions: [...inside.querySelectorAll('article figcaption')].map(caption => caption.textContent.trim()),
      bare: [...inside.querySelectorAll('article .cell_output img')]
        .filter(image => !image.closest('figure')?.querySelector('figcaption')).map(image => image.alt),
      prose: [...inside.querySelectorAll('article p > em:only-child')].map(line => line.textContent.trim()),
    };
    const ground = scheme => {
      root.dataset.theme = scheme;
      return [inside.defaultView.getComputedStyle(inside.body).backgroundColor,
              inside.defaultView.getComputedStyle(inside.querySelector('article')).color];
    };
    found[page].light = ground('light'); found[page].dark = ground('dark');
  }
  document.getElementById('result').textContent = JSON.stringify(found);
})();
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", "notebooks/book"]
    built = subprocess.run(
        [*command, "-d", folder / "doctrees", "notebooks", folder / "html"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "html"


def pages_of(site: Path) -> list[str]:
    ours = [*site.glob("[01][0-9]_*.html"), *site.glob("book/*.html")]
    return sorted(page.relative_to(site).as_posix() for page in ours)


def test_every_notebook_and_every_page_of_the_book_is_there(site: Path):
    pages = pages_of(site)
    assert {f"{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")} < set(pages)
    assert {f"book/{path.stem}.html" for path in (ROOT / "notebooks/book").glob("*.md")} < set(pages)


def test_what_cells_say_in_markdown_is_rendered(site: Path):
    for page in pages_of(site):
        text = (site / page).read_text(encoding="utf-8")
        assert "|—|" not in text, page  # what becomes of |---| but in code
        assert "{{ repository" not in text, page


def test_no_page_asks_another_host_for_anything_that_it_needs_to_be_read(site: Path):
    for page in pages_of(site):
        needed = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)\"", (site / page).read_text())
        assert not needed, f"{page} loads {needed}"


class Watched(SimpleHTTPRequestHandler):
    """Serves the site; each page first starts to collect its own problems."""

    def do_GET(self):
        if self.path == "/look.html":
            return self.answer(LOOK.replace("PAGES", json.dumps(pages_of(Path(self.directory)))))
        path = Path(self.translate_path(self.path))
        if path.suffix == ".html" and path.is_file():
            return self.answer(path.read_text().replace("<head>", f"<head>{COLLECT}", 1))
        return super().do_GET()

    def answer(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def seen(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What Chromium reports of every page, 400 pixels wide, without a network."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Watched, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        shown = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--window-size=1200,900",
                "--virtual-time-budget=60000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/look.html",
            ],
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    finally:
        server.shutdown()
    result = re.search(r'<pre id="result">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert result, shown.stdout[-2000:] + shown.stderr[-2000:]
    assert result[1], "the page that looks did not finish"
    return json.loads(result[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@needs_browser
def test_pages_load_without_errors_and_fit_a_small_screen(site: Path, seen: dict[str, dict]):
    assert set(seen) == set(pages_of(site))
    assert {page: found["problems"] for page, found in seen.items() if found["problems"]} == {}
    assert {page: found["overflow"] for page, found in seen.items() if found["overflow"] > 0} == {}


@needs_browser
def test_formulas_are_rendered(seen: dict[str, dict]):
    assert sum(found["formulas"] for found in seen.values()) > 200
    assert {page: found["unrendered"] for page, found in seen.items() if found["unrendered"]} == {}
    assert {page: found["faulty"] for page, found in seen.items() if found["faulty"]} == {}


@needs_browser
def test_pictures_have_alternative_text(seen: dict[str, dict]):
    assert {page: found["unnamed"] for page, found in seen.items() if found["unnamed"]} == {}


@needs_browser
def test_pictures_have_a_caption_and_say_nothing_twice(seen: dict[str, dict]):
    bare = {page: found["bare"] for page, found in seen.items() if found["bare"]}
    assert set(bare) <= {"12_every_figure.html"}, bare  # where each stands below its claim
    for page, found in seen.items():
        assert "" not in found["captions"], page
        assert not set(found["captions"]) & set(found["prose"]), page
    assert len(seen["03_loqa_and_advantage_alignment.html"]["captions"]) == 4


def luminance(colour: str) -> float:
    """Relative luminance of a CSS colour rgb(r, g, b), by WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@needs_browser
def test_text_is_readable_in_light_and_in_dark(seen: dict[str, dict]):
    for page, found in seen.items():
        for scheme in ("light", "dark"):
            ground, text = sorted(map(luminance, found[scheme]))
            assert (text + 0.05) / (ground + 0.05) > 7, f"{page} in {scheme}: {found[scheme]}"
        assert found["light"] != found["dark"]
