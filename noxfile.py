"""`nox` runs lint, typecheck and tests; `nox -l` lists further sessions.

Sessions that need torch share one environment, since torch takes gigabytes.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typecheck", "tests"]
nox.needs_version = ">=2025.2.9"

SHARED = Path(".nox", "with-torch")
PYPROJECT = nox.project.load_toml("pyproject.toml")
INSTALLED = "import cifarzoo as zoo; assert 'site-packages' in zoo.__file__, zoo.__file__"
WITHOUT_PICTURES = ("--deselect", "tests/viz/test_reference.py", "tests")
PARALLEL = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")
# Elsewhere torch has no oneDNN, whose layers are then not covered, and fonts look different.
ARGUMENTS = ("--cov", "--cov-report=term") if sys.platform == "linux" else WITHOUT_PICTURES
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # per process
SCHEMAS = {
    "github-workflows": ".github/workflows/*.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "dependabot": ".github/dependabot.yml",
    "citation-file-format": "CITATION.cff",
}
CODE = ("src", "tests", "examples", "tools", "benchmarks", "docs", "hubconf.py", "noxfile.py")


def group(*names: str) -> tuple[str, ...]:
    """Return the requirements of dependency groups in pyproject.toml."""
    return nox.project.dependency_groups(PYPROJECT, *names)


def with_torch(session: nox.Session, *requirements: str) -> str:
    """Install the package and requirements into the shared environment; return its Python."""
    folder = SHARED / ("Scripts" if os.name == "nt" else "bin")
    python = shutil.which("python", path=str(folder))
    if python is None:
        session.run(sys.executable, "-m", "venv", str(SHARED), external=True)
        python = shutil.which("python", path=str(folder))
    if python is None:
        session.error(f"{SHARED} is not a virtual environment; delete it and run nox again")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    session.run(*pip, ".", *requirements, external=True)
    session.run(*pip, "--force-reinstall", "--no-deps", ".", external=True)
    return python


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting, the workflows and what else GitHub reads."""
    session.install(*group("lint"))
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)
    # Without an encoding, Windows takes text for cp1252.
    session.run("ruff", "check", "--preview", "--select", "PLW1514", *CODE)
    session.run("zizmor", "--offline", "--no-progress", "--quiet", ".")
    for schema, files in SCHEMAS.items():
        found = sorted(map(str, Path().glob(files)))
        session.run("check-jsonschema", f"--builtin-schema=vendor.{schema}", *found)


@nox.session(venv_backend="none")
def typecheck(session: nox.Session) -> None:
    """Check types in all code."""
    python = with_torch(session, *group("typecheck", "tests", "docs"))
    session.run(python, "-m", "mypy", *session.posargs, external=True)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Test the installed package; tests on real data need CIFARZOO_DATA."""
    python = with_torch(session, *group("tests"))
    arguments = session.posargs or [*PARALLEL, *ARGUMENTS]
    session.run(python, "-c", INSTALLED, external=True)
    session.run(python, "-m", "pytest", *arguments, external=True, env=ONE_THREAD)


@nox.session(default=False, python=["3.11", "3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """Run the tests with the newest dependencies on every Python; takes gigabytes each."""
    session.install(".", *group("tests"))
    arguments = session.posargs or (*PARALLEL, *WITHOUT_PICTURES)
    session.run("python", "-m", "pytest", *arguments, env=ONE_THREAD)


@nox.session(default=False, python="3.11")
def oldest(session: nox.Session) -> None:
    """Run the tests with the oldest supported dependencies, which only the oldest Python has."""
    required = PYPROJECT["project"]["dependencies"]
    chosen = [each.replace(">=", "==") for each in required]
    session.install(".", *chosen, "pyparsing<3.2", *group("tests"))
    # Some of their own calls are deprecated by now.
    arguments = session.posargs or ("-W", "default", *PARALLEL, *WITHOUT_PICTURES)
    session.run("python", "-m", "pytest", *arguments, env=ONE_THREAD)


@nox.session(venv_backend="none", default=False)
def mutate(session: nox.Session) -> None:
    """Mutate the arithmetic, the data path and the checkpoints, and list surviving mutants.

    Takes half an hour; `mutmut show NAME` shows a mutant.
    """
    python = with_torch(session, *group("tests", "mutation"))
    arguments = ("run", *session.posargs)
    session.run(python, "-m", "mutmut", *arguments, external=True, env=ONE_THREAD)
    session.run(python, "-m", "mutmut", "results", external=True)


@nox.session(venv_backend="none", default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz every reader with damaged files for about ten minutes."""
    python = with_torch(session, *group("tests"))
    chosen = ("tests/data/test_fuzz.py", "--hypothesis-profile=fuzz")
    session.run(python, "-m", "pytest", *chosen, *session.posargs, external=True)


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Benchmark loading and training against peers, in turns; writes to results/.

    With a GPU, time to accuracy as well.
    """
    python = with_torch(session, *group("bench"))
    checkout = {"PYTHONPATH": "src"}  # an installed package has no commit
    for name in ("loading", "throughput", "scaling", "processes"):
        command = (python, f"benchmarks/{name}.py", *session.posargs)
        session.run(*command, external=True, env=checkout)
    command = (python, "benchmarks/time_to_accuracy.py", "--gpu-only", *session.posargs)
    session.run(*command, external=True, env=checkout)


@nox.session(venv_backend="none", default=False)
def weights(session: nox.Session) -> None:
    """Score all packaged weights, also exported, on the real test set (CIFARZOO_DATA).

    Takes minutes.
    """
    python = with_torch(session, *group("tests"))
    chosen = ("tests/test_packaged.py", "tests/test_export.py", "-m", "data", *session.posargs)
    session.run(python, "-m", "pytest", *chosen, external=True)


@nox.session(venv_backend="none", default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, run its doctests, test it in Chromium."""
    python = with_torch(session, *group("docs", "tests"))
    sphinx = (python, "-m", "sphinx", "-W", "--keep-going", "-q")
    session.run(*sphinx, "-b", "html", "docs", "docs/_build/html", external=True)
    session.run(*sphinx, "-b", "doctest", "docs", "docs/_build/doctest", external=True)
    session.run(python, "-m", "pytest", "docs/browser", *session.posargs, external=True)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the wheel and the source distribution into dist/."""
    session.install("build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Build both distributions and check their metadata and contents."""
    session.install("build", "twine", "check-wheel-contents")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    made = [str(path) for path in sorted(Path("dist").iterdir())]
    session.run("twine", "check", "--strict", *made)
    session.run("check-wheel-contents", *(path for path in made if path.endswith(".whl")))
