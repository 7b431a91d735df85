"""A proxy chooses the images of a batch that a step is taken with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import (
    Callback,
    Check,
    CheckpointError,
    ImageClassifier,
    LabelError,
    Loaders,
    NonFiniteLossError,
    OptionError,
    ParamGroup,
    Proxy,
    Recipe,
    Selection,
    build_model,
    fit,
    model_card,
    shapes_loaders,
    train,
)
from cifarzoo.spec import ModelCard
from cifarzoo.training.selection import Selector

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]

PROXYS = Recipe(epochs=2, lr=0.1, momentum=0.9, label_smoothing=0.1, warmup_epochs=1)
CHOOSING = Recipe(epochs=4, lr=0.1, keep="last", selection=Selection(proxy="any", every=2))


class Linear(nn.Module):
    """Logits that are a linear function of the first two numbers of an image, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.layer(images[:, 0, 0, :2])
        return result


def _selector(selection: Selection, model: nn.Module, recipe: Recipe = PROXYS) -> Selector:
    return Selector(
        selection,
        Proxy(model=model, recipe=recipe),
        epochs=4,
        steps_per_epoch=6,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def _batch() -> tuple[Tensor, Tensor]:
    """Images whose losses under `Linear` rise with how wrong the first number is."""
    images = torch.zeros(4, 3, 2, 2)
    images[:, 0, 0, 0] = torch.tensor([3.0, -2.0, 1.0, -4.0])
    return images, torch.zeros(4, dtype=torch.int64)


def _bits(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def _same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_bits(one), _bits(other), strict=True))


def test_hardest_images_are_chosen_in_their_order() -> None:
    images, labels = _batch()
    labels[2] = 1  # its loss is now the third: 1.31, after 4.02 and 2.13
    for share, kept in ((0.5, [1, 3]), (0.75, [1, 2, 3]), (0.01, [3])):
        selector = _selector(Selection(share=share), Linear())
        found, theirs = selector.chosen(1, images, labels)
        assert torch.equal(found, images[kept])
        assert torch.equal(theirs, labels[kept])


def test_proxy_steps_with_what_it_chose_and_only_then() -> None:
    """Against one step of SGD on the mean loss of the two chosen images."""
    images, labels = _batch()
    model, other = Linear(), Linear()
    selector = _selector(Selection(every=3), model, replace(PROXYS, warmup_epochs=0))
    for step in (1, 2):
        selector.chosen(step, images, labels)
        assert _same(model, other)
    selector.chosen(3, images, labels)
    loss = nn.functional.cross_entropy(other(images[[1, 3]]), labels[:2], label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, list(other.parameters()))
    with torch.no_grad():
        other.layer.weight -= 0.1 * gradient
    torch.testing.assert_close(model.layer.weight, other.layer.weight)


def test_proxys_schedule_runs_over_the_epochs_of_the_run() -> None:
    recipe = replace(PROXYS, schedule="linear", warmup_epochs=0)
    selector, rates = _selector(Selection(every=1), Linear(), recipe), []
    for step in range(24):
        selector.chosen(step, *_batch())
        rates.append(selector.state_dict()["optimizers"]["optimizers"][0]["param_groups"][0]["lr"])
    assert rates == pytest.approx([0.1 * (1 - step / 24) for step in range(24)])
    selector = _selector(Selection(every=1), Linear())  # half of the proxy's epochs are warm-up
    selector.chosen(11, *_batch())
    state = selector.state_dict()["optimizers"]["optimizers"][0]["param_groups"][0]
    assert state["lr"] == pytest.approx(0.1 * 12 / 13)
    ending = replace(recipe, groups=(ParamGroup(params="*", epochs=2),))  # of two: to the end
    _selector(Selection(), Linear(), ending).chosen(23, *_batch())


def test_run_learns_from_chosen_images_alone(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    seen: list[int] = []
    model, small = make_model(), make_model(seed=1)
    model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    before = _bits(small)
    history = fit_quietly(
        model,
        Loaders(make_loaders().train),
        replace(CHOOSING, selection=Selection(proxy="any", share=0.25)),
        proxy=Proxy(model=small, recipe=PROXYS),
    )
    assert seen == 24 * [2]
    assert history.images == 24 * 8
    assert not small.training
    assert not all(torch.equal(*pair) for pair in zip(before, _bits(small), strict=True))
    assert all(tensor.requires_grad for tensor in small.parameters())


def test_run_with_a_selection_resumes_to_the_same_end(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    class Fault(Callback):
        def on_check(self, check: Check) -> None:
            if check.step == 16:  # the last checkpoint is that of step 14, within an epoch
                raise OSError("the cable was pulled")

    groups = (ParamGroup(params="*bias", lr=0.5, epochs=1.5), ParamGroup(params="*", momentum=0.5))
    recipe = replace(CHOOSING, checks_per_epoch=3, selection=Selection(proxy="any", every=4))

    def parts() -> tuple[ImageClassifier, Proxy]:
        small = make_model(seed=1, dropout=0.2)
        return make_model(), Proxy(model=small, recipe=replace(PROXYS, groups=groups))

    whole, by = parts()
    expected = fit_quietly(whole, Loaders(make_loaders().train), recipe, proxy=by)
    path = tmp_path / "run.pt"
    cut, own = parts()
    run = partial(fit_quietly, loaders=Loaders(make_loaders().train), recipe=recipe)
    with pytest.raises(OSError, match="cable"):
        run(cut, proxy=own, checkpoint=path, callbacks=[Fault()])
    again, anew = parts()
    found = run(again, proxy=anew, checkpoint=path)
    assert _same(again, whole)
    assert _same(anew.model, by.model)
    assert [check.train_loss for check in found.checks] == [
        check.train_loss for check in expected.checks
    ]


def test_checkpoint_of_another_proxy_is_refused(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    path, loaders = tmp_path / "run.pt", Loaders(make_loaders().train)
    run = partial(fit_quietly, loaders=loaders, recipe=CHOOSING, checkpoint=path)
    run(make_model(), proxy=Proxy(model=make_model(seed=1), recipe=PROXYS))
    for model, recipe in (
        (make_model(dropout=0.5), PROXYS),
        (make_model(), replace(PROXYS, lr=0.2)),
    ):
        with pytest.raises(CheckpointError, match="proxy: "):
            run(make_model(), proxy=Proxy(model=model, recipe=recipe))


def test_recipe_and_proxy_go_together(model: ImageClassifier, loaders: Loaders) -> None:
    recipe = Recipe(epochs=1, selection=Selection())
    with pytest.raises(OptionError, match=r"images by 'sprint_s', and proxy is None; give fit\(pr"):
        fit_quietly(model, loaders, recipe)
    with pytest.raises(OptionError, match="there is a proxy, but the recipe has no selection"):
        fit_quietly(model, loaders, Recipe(epochs=1), proxy=Proxy(model=model, recipe=PROXYS))
    with pytest.raises(OptionError, match="the proxy's network is the model or its teacher"):
        fit_quietly(model, loaders, recipe, proxy=Proxy(model=model, recipe=PROXYS))
    wrong: Any = nn.Identity
    with pytest.raises(OptionError, match=r"proxy\.model is a type; needed is a Module"):
        Proxy(model=wrong, recipe=PROXYS)
    wrong = "default"
    with pytest.raises(OptionError, match=r"proxy\.recipe is 'default' \(str\); needed is a Rec"):
        Proxy(model=model, recipe=wrong)


def test_labels_outside_the_proxys_classes_are_refused(
    model: ImageClassifier, make_loaders: MakeLoaders
) -> None:
    with pytest.raises(LabelError, match="the model has 2 classes"):
        fit_quietly(
            model,
            Loaders(make_loaders().train),
            CHOOSING,
            proxy=Proxy(model=Linear(), recipe=PROXYS),
        )


def test_proxy_that_is_no_number_any_more_ends_the_run(
    model: ImageClassifier, make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    wild = Proxy(model=make_model(seed=1), recipe=replace(PROXYS, lr=1e30, warmup_epochs=0))
    before = _bits(model)
    message = r"a weight of the proxy is not finite .* a lower lr of its recipe than 1e\+30"
    with pytest.raises(NonFiniteLossError, match=message):
        fit_quietly(model, Loaders(make_loaders().train), CHOOSING, proxy=wild)
    assert all(torch.equal(*pair) for pair in zip(before, _bits(model), strict=True))


@pytest.mark.muon
def test_first_layers_of_the_proxy_are_computed_from_images() -> None:
    loaders = shapes_loaders(batch_size=50, n_train=200, n_test=10, val_fraction=0)
    small = build_model("sprint_s")
    assert small.needs_images
    fit_quietly(
        build_model("tiny_s"),
        Loaders(loaders.train),
        replace(CHOOSING, epochs=1),
        proxy=Proxy(model=small, recipe=replace(model_card("sprint_s").recipe, batch_size=25)),
    )
    assert not small.needs_images


@pytest.mark.muon
def test_train_builds_the_proxy_with_its_cards_recipe(
    make_loaders: MakeLoaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cifarzoo.run

    given: list[Proxy | None] = []

    def look(*args: Any, proxy: Proxy | None, **options: Any) -> Any:  # noqa: ANN401
        given.append(proxy)
        return fit(*args, proxy=proxy, **options)

    monkeypatch.setattr(cifarzoo.run, "fit", look)
    card: ModelCard = model_card("report_baseline")
    recipe = replace(card.recipe, epochs=1, selection=Selection(proxy="tiny_s"))
    quiet: dict[str, Any] = {"device": "cpu", "precision": "float32", "progress": False}
    run = train("report_baseline", data=make_loaders(), recipe=recipe, **quiet)
    plain = train(
        "report_baseline", data=make_loaders(), recipe=replace(recipe, selection=None), **quiet
    )
    (proxy, nothing) = given
    assert proxy is not None
    assert nothing is None
    assert proxy.recipe == model_card("tiny_s").recipe
    assert math.isfinite(run.history.checks[-1].train_loss)
    assert run.history.images == plain.history.images
