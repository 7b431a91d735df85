"""Names of other projects that the documentation links to, as inventories for intersphinx.

The projects publish inventories of all their names, which would have to be fetched at every build.
These are lists of what is needed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import sphobjinv

__all__ = ["write_inventories"]

Names: TypeAlias = dict[str, tuple[str, ...]]

PYTHON: Names = {
    "class": (
        *("bool", "dict", "float", "int", "list", "object", "str", "tuple", "type"),
        *("collections.abc.Callable", "collections.abc.Iterable", "collections.abc.Iterator"),
        *("collections.abc.Mapping", "collections.abc.Sequence", "pathlib.Path"),
    ),
    "data": ("None", "typing.Literal", "typing.Any"),
    "exception": (
        *("ArithmeticError", "FileNotFoundError", "ImportError", "KeyError", "OSError"),
        *("KeyboardInterrupt", "LookupError", "RuntimeError", "ValueError"),
    ),
}
TORCH: Names = {
    "class": (
        *("torch.Tensor", "torch.device", "torch.dtype", "torch.Generator"),
        *("torch.nn.Conv2d", "torch.nn.Module", "torch.utils.data.DataLoader"),
    ),
}
MATPLOTLIB: Names = {"class": ("matplotlib.figure.Figure",)}
PAGES: dict[str, tuple[str, Names, dict[str, str]]] = {
    "python": (
        "https://docs.python.org/3/",
        PYTHON,
        {"class": "library/stdtypes.html", "data": "library/constants.html"},
    ),
    "torch": ("https://docs.pytorch.org/docs/stable/", TORCH, {}),
    "matplotlib": ("https://matplotlib.org/stable/", MATPLOTLIB, {}),
}


def write_inventories(folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for each project; give what `intersphinx_mapping` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for project, (site, names, pages) in PAGES.items():
        inventory = sphobjinv.Inventory()
        inventory.project, inventory.version = project, "stable"
        for role, listed in names.items():
            for name in listed:
                inventory.objects.append(
                    sphobjinv.DataObjStr(
                        name=name,
                        domain="py",
                        role=role,
                        priority="1",
                        uri=f"{_page(project, role, name, pages)}#$",
                        dispname="-",
                    )
                )
        text = inventory.data_file()
        path = folder / f"{project}.inv"
        sphobjinv.writebytes(str(path), sphobjinv.compress(text))
        mapping[project] = (site, str(path))
    return mapping


def _page(project: str, role: str, name: str, pages: dict[str, str]) -> str:
    if project == "python":
        module = name.rpartition(".")[0]
        if role == "exception":
            return "library/exceptions.html"
        return f"library/{module}.html" if module else pages[role]
    if project == "matplotlib":
        return "api/figure_api.html"
    if name in ("torch.Tensor", "torch.device", "torch.dtype"):
        return {"torch.Tensor": "tensors.html"}.get(name, "tensor_attributes.html")
    return "data.html" if name.startswith("torch.utils.data") else f"generated/{name}.html"
