"""The files that describe the project agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import cifarzoo

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_citation_describes_this_package() -> None:
    citation = read("CITATION.cff")
    fields = dict(re.findall(r'^([a-z-]+): "?([^"\n]+)"?$', citation, re.MULTILINE))
    assert fields["version"] == cifarzoo.__version__.partition(".dev")[0]
    assert fields["license"] == PROJECT["license"]
    assert fields["repository-code"] == PROJECT["urls"]["Source"]
    listed = citation.partition("keywords:\n")[2].partition("references:")[0]
    assert re.findall("- (.+)", listed) == PROJECT["keywords"]


def test_every_declared_python_is_tested() -> None:
    name = "Programming Language :: Python :: "
    declared = [each.removeprefix(name) for each in PROJECT["classifiers"] if "3." in each]
    assert PROJECT["requires-python"] == f">={declared[0]}"
    for path in (".github/workflows/tests.yml", "noxfile.py"):
        listed = re.findall(r"python[:=] ?\[(.+)\]", read(path))
        assert re.findall(r"[\d.]+", listed[0]) == declared


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", read(name))
    assert not [link for link in links if not (ROOT / link.partition("#")[0]).exists()]


def test_stub_is_ascii() -> None:
    """lazy_loader reads it in the encoding of the system, which is cp1252 on many."""
    assert read("src/cifarzoo/__init__.pyi").isascii()
