from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import EmptyLoaderError, ImageClassifier, LabelError, Loaders, ShapeError, evaluate
from cifarzoo.evaluation.score import (
    batches_to,
    check_labels,
    evaluation_mode,
    loss_and_accuracy,
    predictions,
)

CPU = torch.device("cpu")


def test_batches_are_moved_and_channels_last() -> None:
    images, labels = torch.rand(2, 3, 4, 5), torch.zeros(2, dtype=torch.int64)
    (moved, same), (features, _) = batches_to([(images, labels), (images.flatten(1), labels)], CPU)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, images)
    assert torch.equal(same, labels)
    assert torch.equal(features, images.flatten(1))


def test_nothing_to_move_is_refused() -> None:
    with pytest.raises(EmptyLoaderError, match="gave no batch"):
        list(batches_to([], CPU))
    with pytest.raises(EmptyLoaderError, match=r"\(0, 3, 4, 4\): it holds no image"):
        list(batches_to([(torch.zeros(0, 3, 4, 4), torch.zeros(0))], CPU))


def test_labels_of_all_classes_are_allowed() -> None:
    check_labels(torch.tensor([0, 9]), torch.zeros(2, 10))
    with pytest.raises(LabelError):
        check_labels(torch.tensor([0, 10]), torch.zeros(2, 10))
    with pytest.raises(ShapeError):
        check_labels(torch.tensor([0]), torch.zeros(2, 10))


def test_evaluation_mode_turns_gradients_off_and_keeps_the_modes() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[0].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == [True, False, True]
    assert torch.is_grad_enabled()


def test_predictions_are_in_the_loaders_order(model: ImageClassifier, loaders: Loaders) -> None:
    assert loaders.val is not None
    logits, labels = predictions(model, loaders.val, device=CPU, dtype=torch.float32)
    assert labels.tolist() == [i % 10 for i in range(20)]
    with torch.no_grad():
        parts: list[Tensor] = [model.eval()(images) for images, _ in loaders.val]
    assert torch.allclose(logits, torch.cat(parts))
    assert not logits.requires_grad


def test_short_score_is_the_long_ones(model: ImageClassifier, loaders: Loaders) -> None:
    assert loaders.val is not None
    loss, accuracy = loss_and_accuracy(model, loaders.val, device=CPU, dtype=torch.float32)
    score = evaluate(model, loaders.val, device="cpu", precision="float32")
    assert (loss, accuracy) == (score.loss, score.accuracy)


def test_sure_model_has_a_finite_loss_with_views_too() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, 500.0]]).expand(len(images), 2)

    batch = [(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))]
    single, views = (evaluate(Sure(), batch, device="cpu", tta=tta) for tta in ("none", "flip"))
    assert views.loss == pytest.approx(single.loss) == pytest.approx(250)
