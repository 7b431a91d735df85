"""Sphinx configuration; `nox -s docs` builds the documentation."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]

from generated import TYPES, write_pages  # noqa: E402
from playground import write_playground  # noqa: E402

import cifarzoo  # noqa: E402

project = "cifarzoo"
author = "the cifarzoo developers"
project_copyright = "the cifarzoo developers"
version = release = cifarzoo.__version__

extensions = [
    "myst_parser",
    "recorded",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_playground", "**/_*.md"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"cifarzoo {release}"
html_favicon = "static/icon.svg"
html_static_path = ["static", "_playground"]
html_css_files = ["style.css"]
html_js_files = [("focus.js", {"defer": "defer"})]
html_copy_source = False
html_domain_indices = False  # the reference is sorted by topic
html_theme_options = {"navigation_with_keys": True}

# The pages show what the examples printed and drew on CIFAR-10 (see record.py).
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "tasks",
    "plot_gallery": "False",
    "ignore_pattern": r"(^|[\\/])(_|several_gpus)",
    "within_subsection_order": "recorded.Order",
    "notebook_extensions": set(),
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
}

autodoc_typehints = "signature"
autodoc_type_aliases = {
    name: f"cifarzoo.{module}.{name}"
    for modules in TYPES.values()
    for module, names in modules.items()
    for name in names
}
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

doctest_global_setup = """
import os, tempfile
os.chdir(tempfile.mkdtemp())
import torch
from torch import nn
from cifarzoo import *
from cifarzoo.arithmetic import *
from cifarzoo.errors import *
from cifarzoo.evaluation.corruptions import *
from cifarzoo.evaluation.statistics import *
from cifarzoo.viz import *
"""
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

write_pages(HERE)
write_playground(HERE / "_playground" / "playground")


def shorten_signature(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Show aliases by name, and the fields of a dataclass without their types.

    Its attributes are listed with them.
    """
    if what == "class" and isinstance(value, type) and dataclasses.is_dataclass(value):
        fields = inspect.signature(value).parameters.values()
        untyped = [field.replace(annotation=field.empty) for field in fields]
        signature = str(inspect.Signature(untyped))
    # Sphinx does not name aliases within other types.
    alias = re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)")
    return signature and alias.sub(r"\1", signature), returns and alias.sub(r"\1", returns)


def setup(app: Sphinx) -> None:
    """Register the handler."""
    app.connect("autodoc-process-signature", shorten_signature)
    # The implementation of `train` lists its arguments, its overloads do not.
    analyzer = ModuleAnalyzer.for_module("cifarzoo.run")
    analyzer.analyze()
    analyzer.overloads.clear()
