"""Train a model of the zoo on several GPUs, with one process each, in a loop of plain PyTorch.

torchrun --standalone --nproc-per-node=2 examples/several_gpus.py
torchrun --standalone --nproc-per-node=2 examples/several_gpus.py --data shapes --epochs 1
"""

import argparse
import os
from functools import partial

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import cifarzoo as zoo
from cifarzoo.data.loader import to_device


def train(args: argparse.Namespace, device: torch.device) -> None:
    """Train on this process's shard; the first process scores the model."""
    recipe = zoo.model_card(args.name).recipe
    shapes = partial(zoo.shapes_loaders, n_train=4_000, n_test=1_000)
    load = shapes if args.data == "shapes" else zoo.cifar10_loaders
    loaders = load(args.batch_size, augmentation=recipe.augmentation)
    shard = to_device(
        loaders.train.shard(distributed.get_rank(), distributed.get_world_size()), device
    )

    torch.manual_seed(0)
    model = zoo.build_model(args.name)
    if model.needs_images:  # some layers are computed from images, the same in all processes
        model.initialize_from(loaders.train.images[:2_000])
    model.to(device)
    torch.manual_seed(1 + distributed.get_rank())  # each process draws its own dropout
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=args.lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, total_steps=args.epochs * len(shard)
    )
    model.train()
    for _ in range(args.epochs):
        for images, labels in shard:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(ddp(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()

    if distributed.get_rank() == 0:
        print(zoo.evaluate(model, loaders.test, device=device))


def main() -> None:
    """Join the process group, train, and leave it."""
    parser = argparse.ArgumentParser(description="Train on several GPUs.")
    parser.add_argument("--name", choices=zoo.list_models(), default="report_baseline")
    parser.add_argument("--data", choices=["cifar10", "shapes"], default="cifar10")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256, help="over all processes")
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()
    if not distributed.is_torchelastic_launched():
        parser.error("start it with torchrun --standalone --nproc-per-node=N")
    device, number = torch.device("cpu"), int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        if number >= torch.cuda.device_count():
            parser.error(f"expected at most {torch.cuda.device_count()} processes, one per GPU")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    distributed.init_process_group()  # nccl between GPUs, gloo between CPUs
    try:
        train(args, device)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
