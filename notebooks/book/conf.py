"""The site: all notebooks with their committed outputs, the pages of the book, and the reference of aa_core.

Built offline by `make site`. Formulas become MathML in the reader's browser, by the copy of KaTeX that
sphinxcontrib-katex carries, so that no page needs a network.

Why Sphinx, and not Jupyter Book 2: the site must come out of committed outputs and the packages of requirements.lock
alone. Jupyter Book 2 is built by mystmd, a Node program: Node could come into the lock as a wheel, but the themes are
fetched from the network, unless a copy of them is kept here.
"""

import json
import os
import re
from pathlib import Path

from docutils import nodes

from experiments.pictures import alternative_text, saved

project = "aa-companion"
author = "The aa-companion authors"
copyright = author
root_doc = "book/index"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.katex",
]
exclude_patterns = ["**.ipynb_checkpoints", "book/README.md"]

nb_execution_mode = "off"  # what is shown is what is committed
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables and formulas
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
katex_css_path = "katex-math.css"  # the package's own; MathML needs no fonts
katex_options = "output: 'mathml'"

copybutton_exclude = ".linenos, .gp, .go"  # neither prompts nor what an example prints

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True

html_theme = "sphinx_book_theme"
html_title = "Opponent shaping, put to the test"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
# where the repository is hosted: REPOSITORY_URL=https://... make site adds its links and launch buttons; nothing else
# knows an address. The notebooks lie beside this folder, so their path in the repository is that of the sources here.
repository, branch = os.environ.get("REPOSITORY_URL", ""), os.environ.get("REPOSITORY_BRANCH", "main")
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    **(
        {
            "repository_url": repository,
            "repository_branch": branch,
            "repository_provider": next((host for host in ("gitlab", "bitbucket") if host in repository), "github"),
            "path_to_docs": "notebooks",
            "use_repository_button": True,
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
            },
        }
        if repository
        else {}
    ),
}


def _plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are written for a terminal: single backticks are code, `|x|` and `*` mean themselves, tables stay."""
    text = re.sub(r"(?<![`:\w])`([^`\n]+)`(?!`)", r"``\1``", "\n".join(lines))
    table = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)
    parts, end = [], 0
    for found in table.finditer(text):
        parts += [
            _escaped(text[end : found.start()]),
            "::\n\n",
            *(f"    {line}\n" for line in found[0].splitlines()),
            "\n",
        ]
        end = found.end()
    lines[:] = "".join([*parts, _escaped(text[end:])]).splitlines()


def _escaped(text: str) -> str:
    """Marks of reStructuredText outside of code, taken literally."""
    pieces = re.split(r"(``[^`]*``)", text)
    return "".join(piece if piece.startswith("``") else re.sub(r"([|*])", r"\\\1", piece) for piece in pieces)


def _name_pictures(app, doctree) -> None:
    """Give pictures in notebooks an alternative text and a caption."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for container in list(doctree.findall(nodes.container)):
            if container.get("nb_element") == "cell_code":
                cell = cells[container["cell_index"]]
                for image in list(container.findall(nodes.image)):
                    if named := alternative_text(cell):  # pictures in Markdown have their own
                        image["alt"] = named
                        caption = nodes.caption("", "", *_caption(container, cell))
                        figure = nodes.figure("", image.deepcopy(), caption)
                        doctree.set_id(figure)  # or it could not be numbered
                        image.replace_self(figure)


def _caption(container: nodes.container, cell: dict) -> list[nodes.Node]:
    """The line in italics that follows a picture, and goes from there into its caption, or else the picture's name."""
    after = container.next_node(descend=False, siblings=True)
    if isinstance(after, nodes.paragraph) and len(after) == 1 and isinstance(after[0], nodes.emphasis):
        after.parent.remove(after)
        return list(after[0].children)
    picture = saved(cell)
    return [nodes.Text(picture.caption if picture else alternative_text(cell))]


def _spell_relations(app, doctree) -> None:
    """Write < and > of displayed formulas as commands: sphinxcontrib-katex does not escape them, and <t is a tag."""
    for block in doctree.findall(nodes.math_block):
        block[:] = [nodes.Text(block.astext().replace("<", r"\lt ").replace(">", r"\gt "))]


def _name_repository(app, name, source: list[str]) -> None:
    """Fill the address of the repository in, or leave out what needs it."""
    if name != root_doc:
        return
    if not repository:
        source[0] = re.sub(r"On Colab, run this.*?</pre>", "", source[0], flags=re.DOTALL)
    source[0] = source[0].replace("{{ repository }}", repository)


def setup(app) -> None:
    """Connect the above."""
    app.connect("source-read", _name_repository)
    app.connect("doctree-read", _name_pictures)
    app.connect("doctree-read", _spell_relations)
    app.connect("autodoc-process-docstring", _plain_docstring)
