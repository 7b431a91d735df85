"""How the documentation is built: `nox -s docs`. It needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

from docutils.nodes import Element, TextElement  # noqa: E402
from generated import RECORDED, write_pages  # noqa: E402
from inventories import write_inventories  # noqa: E402
from sphinx.addnodes import pending_xref  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.environment import BuildEnvironment  # noqa: E402
from sphinx.ext.intersphinx import missing_reference  # noqa: E402

import cifarzoo  # noqa: E402

project = "cifarzoo"
author = "the cifarzoo developers"
project_copyright = "the cifarzoo developers"
version = release = cifarzoo.__version__

extensions = [
    "myst_parser",
    "image_sizes",
    "recorded",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/_*.md"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"cifarzoo {release}"
html_favicon = "static/icon.svg"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_js_files = [("focus.js", {"defer": "defer"})]
html_copy_source = False
html_domain_indices = False  # the reference is sorted by what things are for
html_theme_options = {"navigation_with_keys": True}

# The examples are shown with what they printed and drew when they ran on CIFAR-10 (record.py).
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

nitpicky = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Names that the documentation links to elsewhere, listed in inventories.py: no network is asked.
intersphinx_mapping = write_inventories(HERE / "_build" / "inventories")
doctest_global_setup = """
import os, tempfile
os.chdir(tempfile.mkdtemp())
from torch import nn
from cifarzoo import *
from cifarzoo.viz import *
"""
doctest_default_flags = 0b1110  # ELLIPSIS, NORMALIZE_WHITESPACE, DONT_ACCEPT_TRUE_FOR_1

write_pages(HERE)

# Annotations are written as the code has them; these are where their short names lead.
FULL_NAMES = {
    "Figure": "matplotlib.figure.Figure",
    "Tensor": "torch.Tensor",
    "nn.Conv2d": "torch.nn.Conv2d",
    "nn.Module": "torch.nn.Module",
    "torch.nn.modules.module.Module": "torch.nn.Module",
    "cifarzoo.arithmetic.cost.LayerTable": "cifarzoo.LayerTable",
}
# Aliases of types that have no entry of their own.
PLAIN = {
    *("BoundaryName", "CellValue", "Grid", "Runs", "SizeName"),
    "cifarzoo.evaluation.runs.ScoredRun",
    "cifarzoo.models.split.ModelPart",
}


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> Element | None:
    """Find the target of a short name; leave an alias as plain text."""
    name = node.get("reftarget")
    if name in PLAIN:
        return content
    short = str(name).rpartition(".")[2]
    ours = name == short or str(name).startswith("cifarzoo.report.")
    if name not in FULL_NAMES and ours and short in RECORDED:
        FULL_NAMES[name] = f"cifarzoo.report.{short}"
    if name not in FULL_NAMES:
        return None
    node["reftarget"] = FULL_NAMES[name]
    found = env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "class", node["reftarget"], node, content
    )
    return found or missing_reference(app, env, node, content)


def setup(app: Sphinx) -> None:
    """Be asked for what nobody has found."""
    app.connect("missing-reference", resolve, priority=100)
