"""Settings of the site: Sphinx reads docs/*.md, which are readable on GitHub as they are.

`make site` builds it. Every warning is an error there: a link or an anchor that leads nowhere.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

project = "LS4 benchmark"
author = "The LS4 benchmark contributors"
version = release = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["site"]
suppress_warnings = ["myst.header"]  # generated pages leave out levels

myst_heading_anchors = 4  # as GitHub makes them
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_use_ivar = True

html_theme = "furo"
html_math_renderer = "mathml"  # which browsers show without a script from elsewhere
html_title = "LS4 benchmark"
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "made.html",  # links to pages that are made from records
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}

# What is in the repository and not in the site: on GitHub where it is built there, else beside it.
ON_GITHUB = os.environ.get("GITHUB_REPOSITORY")
REPOSITORY = f"https://github.com/{ON_GITHUB}/blob/main/" if ON_GITHUB else "../../"
PAGES = {ROOT / "README.md": "index.md", ROOT / "config" / "README.md": "configuration.md"}
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def prepare(_app: Sphinx, page: str, source: list[str]) -> None:
    """Put the file into a page that it names, pages that no list has at the end, and relink."""
    text = relink(source[0], DOCS, page)
    if page == "index":
        listed = {*source[0].split(), page}
        others = sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in listed)
        text = text.replace("<!-- others -->", "\n".join(others))
    found = INCLUDE.search(text)
    if found:
        file = DOCS / found[1]
        _, _, body = file.read_text(encoding="utf-8").partition("\n")  # without its title
        text = text.replace(found[0], relink(body, file.parent.resolve(), page))
    source[0] = text


def relink(text: str, folder: Path, page: str) -> str:
    """Lead the links of a text that lies in a folder of the repository to the site's pages."""

    def link(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups(default="")
        label = LINK.sub(link, label)  # a picture that is a link
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (folder / target).resolve()
        if not path.exists():
            logging.getLogger(__name__).warning("no such file: %s", target, location=page)
        if path in PAGES:
            target = PAGES[path]
        elif path.is_relative_to(DOCS) or image:
            target = os.path.relpath(path, DOCS)
        else:
            target = REPOSITORY + path.relative_to(ROOT).as_posix()
            if not ON_GITHUB:  # Markdown would look for it from docs/
                return f'<a href="{target}{anchor}">{label.replace("`", "")}</a>'
        return f"{image}[{label}]({target}{anchor})"

    parts = CODE.split(text)
    return "".join(part if k % 2 else LINK.sub(link, part) for k, part in enumerate(parts))


def show_math(translator: Any, node: nodes.Element) -> None:
    """Write a formula as MathML."""
    is_block = isinstance(node, nodes.math_block)
    tex = re.sub(r"\\[Bb]igg?[lr]?(?![a-z])", "", node.astext())  # sizes, which it does not know
    translator.body.append(tex2mathml(tex, as_block=is_block))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.add_html_math_renderer("mathml", (show_math, None), (show_math, None))
    app.connect("source-read", prepare)
