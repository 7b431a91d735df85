"""Fixtures: networks and data that train in milliseconds."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import torch
from torch import Tensor

from cifarzoo import Augmentation, ImageClassifier, Loaders, Recipe, TensorLoader
from cifarzoo.device import seeded
from cifarzoo.models.report import report_model

UNTIMED = hypothesis.settings(hypothesis.settings.default, deadline=None)  # for busy machines
hypothesis.settings.register_profile("untimed", UNTIMED)
hypothesis.settings.register_profile("fuzz", UNTIMED, max_examples=15000, derandomize=False)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
TINY = {"filters": (4, 8), "kernel_size": 3, "hidden": (8,)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    torch.manual_seed(0)  # so that tests do not depend on their order
    if item.get_closest_marker("muon") and not hasattr(torch.optim, "Muon"):
        pytest.skip(f"torch {torch.__version__} has no Muon")


@pytest.fixture(scope="session", autouse=True)
def _without_mps() -> Iterator[None]:
    """Run on the CPU of a Mac: hosted ones have no memory for MPS."""
    with pytest.MonkeyPatch.context() as patch:
        is_available = torch.backends.mps.is_available  # torch.compile reads its __wrapped__
        patch.setattr(torch.backends.mps, "is_available", wraps(is_available)(lambda: False))
        yield


def _images(n: int, *, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return noise with a brighter band of rows whose position encodes the class."""
    labels = torch.arange(first, first + n) % 10
    generator = torch.Generator().manual_seed(first)
    images = torch.randint(0, 100, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, :, 3 * label : 3 * label + 3] += 120
    return images, labels


@pytest.fixture(scope="session")
def real_root() -> Path:
    """Return the folder of the real CIFAR-10, or skip the test."""
    root = os.environ.get("CIFARZOO_DATA")
    if not root:
        pytest.skip("needs the real CIFAR-10: CIFARZOO_DATA is not set")
    return Path(root)


@pytest.fixture(scope="session")
def real_root100(real_root: Path) -> Path:
    """Return the folder of the real CIFAR-100, or skip the test."""
    if not (real_root / "cifar-100-python").is_dir():
        pytest.skip("needs the real CIFAR-100: CIFARZOO_DATA has no cifar-100-python")
    return real_root


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Return a function that imports a script by its path in the repository."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str((ROOT / path).parent))
            patch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def make_loaders() -> Callable[..., Loaders]:
    """Return a function that makes loaders of synthetic images, six batches of eight by default."""

    def make(
        *,
        n_train: int = 48,
        n_val: int = 20,
        n_test: int = 10,
        batch_size: int = 8,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> Loaders:
        train = TensorLoader(
            *_images(n_train),
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            augmentation=augmentation,
            seed=seed,
        )
        return Loaders(
            train,
            TensorLoader(*_images(n_val, first=1000), batch_size=8) if n_val else None,
            TensorLoader(*_images(n_test, first=2000), batch_size=8) if n_test else None,
        )

    return make


@pytest.fixture
def loaders(make_loaders: Callable[..., Loaders]) -> Loaders:
    return make_loaders()


@pytest.fixture
def make_model() -> Callable[..., ImageClassifier]:
    """Return a function that builds networks of about 2,000 parameters from a seed."""

    def make(*, seed: int = 0, **changes: object) -> ImageClassifier:
        with seeded(seed):
            return report_model(**{**TINY, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def model(make_model: Callable[..., ImageClassifier]) -> ImageClassifier:
    return make_model()


@pytest.fixture
def recipe() -> Recipe:
    """Return a recipe with two epochs of six steps and a check after every second step."""
    return Recipe(epochs=2, batch_size=8, lr=0.05, checks_per_epoch=3)


@contextmanager
def _same_bits() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the global random state changed"


@pytest.fixture
def global_state_untouched() -> Callable[[], object]:
    """Return a context that fails if it changes torch's global random state."""
    return _same_bits
