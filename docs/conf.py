"""Sphinx's settings of the walk-through; ``python -m grading site`` calls it. Offline."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project, author = "GRPO, hands on", "the GRPO course"
extensions = ["myst_nb"]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = "GRPO, hands on"
html_static_path = ["_static"]
html_css_files = ["course.css"]
# Deferred: Sphinx's own search comes first, and searches when the page is complete.
html_js_files = [("search.js", {"defer": "defer"})]
html_show_sourcelink = html_copy_source = html_show_copyright = False
html_math_renderer = "mathml"
nb_execution_mode = "off"  # executed before
nb_ipywidgets_js = {}  # widgets are shown as their first picture: no script from elsewhere
nb_mime_priority_overrides = [("html", "text/html", 0)]
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]


def _math(self, node, display):
    self.body.append(convert(node.astext(), display=display))


def _inline(self, node):
    _math(self, node, "inline")
    raise SkipNode


def _block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math"))
    _math(self, node, "block")
    self.body.append("</div>\n")
    raise SkipNode


def setup(app):
    """Formulas as MathML: every current browser draws it, without a script."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
