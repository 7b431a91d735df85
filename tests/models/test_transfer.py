from __future__ import annotations

import functools

import torch

from cifarzoo.models.backbone import TransferClassifier, split_frozen
from cifarzoo.models.transfer import (
    CARDS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    RESNET18_IMAGENET,
    resnet18_transfer,
)
from cifarzoo.spec import EarlyStopping


@functools.cache
def resnet() -> TransferClassifier:
    return resnet18_transfer()


def test_the_reports_counts() -> None:
    model = resnet()
    stage = sum(p.numel() for p in model.network.get_submodule("layer4").parameters())
    head = sum(p.numel() for p in model.network.get_submodule("fc").parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (stage, head) == (8_393_728, 5_130)
    assert trainable == 8_393_728 + 5_130
    assert sum(p.numel() for p in model.parameters()) == 11_181_642


def test_the_reports_recipe() -> None:
    (card,) = CARDS
    recipe = card.recipe
    assert (recipe.optimizer, recipe.lr, recipe.batch_size) == ("adam", 5e-4, 32)
    assert (recipe.epochs, recipe.checks_per_epoch) == (10, 2)
    assert recipe.early_stopping == EarlyStopping(patience=4)
    assert recipe.augmentation is None
    assert card.initial_weights == RESNET18_IMAGENET.tag == "imagenet"
    assert isinstance(card.builder(7), TransferClassifier)


def test_the_resnet_gets_what_it_was_trained_with() -> None:
    preprocess = resnet().preprocess
    assert preprocess.size == 224
    torch.testing.assert_close(preprocess.mean.flatten(), torch.tensor(IMAGENET_MEAN))
    torch.testing.assert_close(preprocess.std.flatten(), torch.tensor(IMAGENET_STD))


def test_the_published_weights_are_torchvisions() -> None:
    from torchvision.models import ResNet18_Weights

    assert ResNet18_Weights.IMAGENET1K_V1.url == RESNET18_IMAGENET.url
    assert RESNET18_IMAGENET.sha256[:8] in RESNET18_IMAGENET.url


def test_resnet_18_splits_before_layer4() -> None:
    model = resnet().eval()
    frozen, trainable = split_frozen(model)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        features = frozen(images)
        assert features.shape == (2, 256, 14, 14)
        assert torch.equal(trainable(features), model(images))
    trained = {id(p) for p in trainable.parameters()}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
