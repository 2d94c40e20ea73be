"""How the site is built: `make docs`, offline, every warning an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # extension.py, figures.py

import crate_transformers

project = "crate_transformers"
author = "the authors of crate_transformers"
copyright = author
version = release = crate_transformers.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "extension"]
root_doc = "index"
exclude_patterns = [
    "notebooks/README.md",
    "static",
    "pictures",
    *("conf.py", "extension.py", "figures.py", "evidence_figures.py", "plans.py"),
]
highlight_language = "text"  # a fence without a language is shown as it is
keep_warnings = True

# notebooks are Python files; they are executed when the site is built, once for each state of a file
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
if tags.has("one_notebook"):  # noqa: F821 (Sphinx's): where the others were run already, as in the suite
    nb_execution_excludepatterns = ["notebooks/[!e]*.py"]  # all but emergence_of_segmentation
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
nb_render_text_lexer = "text"

myst_enable_extensions = ["dollarmath", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
html_math_renderer = "mathml"  # of extension.py: no script, no font

autoclass_content = "class"
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "config_class"}
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes as a list, and not as entries of the index beside the members

html_theme = "furo"
html_title = "crate_transformers"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "../src/crate_transformers/explore/static/icon.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False, "top_of_page_buttons": []}
