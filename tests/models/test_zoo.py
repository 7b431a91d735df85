"""Laws that every model of the zoo obeys."""

from __future__ import annotations

import copy
import functools
import importlib
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from cifarzoo import Loaders, TensorLoader, fit
from cifarzoo.card import STANDARD
from cifarzoo.device import seeded
from cifarzoo.errors import InvalidValueError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.registry import build_on_meta, card_without_weights, list_models

every_model = pytest.mark.parametrize("name", list_models())


@functools.cache
def build(name: str) -> ImageClassifier:
    """Build each model once; no test changes what it returns."""
    with seeded(0):
        return card_without_weights(name).builder(10).eval()


@every_model
def test_the_card_is_complete(name: str) -> None:
    card = card_without_weights(name)
    module = importlib.import_module(f"cifarzoo.models.{card.family}")
    assert card in module.CARDS
    assert next(iter(card.recipes)) == STANDARD
    assert card.summary.endswith(".")
    assert len(card.summary) <= 80
    assert card.paper


@every_model
def test_logits_are_finite_and_each_image_is_independent(name: str) -> None:
    model = build(name)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(model(images / 255), logits)
        one = model(images[:1])
    assert logits.shape == (2, 10)
    assert logits.dtype == torch.float32
    assert bool(logits.isfinite().all())
    assert (one - logits[:1]).abs().max() <= 1e-5 * logits.abs().max()


@every_model
def test_the_number_of_classes_is_the_callers(name: str) -> None:
    card = card_without_weights(name)
    with torch.device("meta"):
        assert card.builder(100).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 100)
    with pytest.raises(InvalidValueError, match="num_classes is 0"):
        card.builder(0)


@every_model
def test_gradients_reach_all_trainable_parameters(name: str) -> None:
    with seeded(0):
        model = card_without_weights(name).builder(10).eval()
    loss = nn.functional.cross_entropy(model(torch.rand(2, 3, 32, 32)), torch.tensor([3, 7]))
    torch.autograd.backward(loss)
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
        if parameter.grad is not None:
            assert bool(parameter.grad.isfinite().all()), parameter_name
            assert bool(parameter.grad.any()), parameter_name


@every_model
def test_gradients_in_bfloat16_and_channels_last_are_finite(name: str) -> None:
    with seeded(0):
        model = card_without_weights(name).builder(10)
    model.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand(2, 3, 32, 32).to(memory_format=torch.channels_last))
    logits.float().square().mean().backward()
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trainable)


@every_model
def test_the_exported_program_computes_the_same(name: str) -> None:
    model, images = build(name), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-5, atol=1e-5)


@every_model
def test_fx_and_vmap_compute_the_same(name: str) -> None:
    model, images = build(name), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(images)
        traced = torch.fx.symbolic_trace(copy.deepcopy(model).train()).eval()
        assert torch.equal(traced(images), expected)
        assert torch.equal(traced(images / 255), expected)
        single = torch.func.vmap(model)((images / 255)[:, None]).squeeze(1)
        torch.testing.assert_close(single, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("name", ["tiny_s", "sprint_s", "report_baseline"])
def test_other_tracers_and_transforms_compute_the_same(name: str) -> None:
    model, images = build(name), torch.rand(2, 3, 32, 32)
    expected, state = model(images), dict(model.state_dict())
    for traced in (
        torch.jit.trace(model, images),  # type: ignore[no-untyped-call]
        make_fx(model)(images),
        torch.compile(model, backend="eager", fullgraph=True),
        functools.partial(torch.func.functional_call, model, state),
    ):
        torch.testing.assert_close(traced(images), expected, rtol=1e-5, atol=1e-5)
    moved = torch.func.jvp(model, (images,), (torch.ones_like(images),))[0]
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize(
    "name",
    ["densenet40_k12_bc", "report_model1", "resnet20", "sprint_s", "sprint_m3", "tiny_s"],
)
@pytest.mark.parametrize("colour", [0, 255])
def test_training_on_constant_images_is_finite(name: str, colour: int) -> None:
    card = card_without_weights(name)
    images = torch.full((24, 3, 32, 32), colour, dtype=torch.uint8)
    images[:, :, ::2, ::2] = 0  # one colour, or few distinct patches
    loader = TensorLoader(images, torch.arange(24) % 10, batch_size=8)
    groups = tuple(replace(group, epochs=None) for group in card.recipe.groups)
    recipe = replace(card.recipe, epochs=1, groups=groups, early_stopping=None, keep="last")
    with seeded(0):
        model = card.builder(10)
    fit(model, Loaders(loader, None, None), recipe, device="cpu", progress=False)
    with torch.no_grad():
        logits = model.eval()(images)
        assert bool(logits.isfinite().all())
        again = card.builder(10).eval().to(memory_format=torch.channels_last)  # as `fit` leaves it
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(images), logits)


@pytest.mark.parametrize(
    ("name", "tag"),
    [(name, tag) for name in list_models() for tag in card_without_weights(name).recipes],
)
def test_every_parameter_group_matches_parameters(name: str, tag: str) -> None:
    card = card_without_weights(name)
    recipe = card.recipes[tag]
    matched = set[str]()
    for parameter_name, parameter in build_on_meta(card).named_parameters():
        if parameter.requires_grad:
            groups = [g for g in recipe.groups if fnmatchcase(parameter_name, g.params)]
            matched |= {group.params for group in groups[:1]}
            own = groups[0].optimizer if groups else None
            assert (own or recipe.optimizer) != "muon" or parameter.ndim >= 2, parameter_name
    assert matched == {group.params for group in recipe.groups}
