"""
Task 3a, 3b: two better networks
================================

- **3a** Design two networks that reach 75 % test accuracy, and say what they are.
- **3b** Give their losses and accuracies, and draw the curves of the better one.

**Model 1** keeps the shape of the baseline, with twice the filters in every layer, batch norm after
every convolution and batches of 32. **Model 2** replaces each 5 × 5 convolution by two of 3 × 3,
which see the same 5 × 5 pixels with fewer parameters and a ReLU in between; batch norm, a little
dropout after each block, and Adam instead of SGD.

.. recorded::

Model 2 is ahead by several points with a third of the parameters. Which of the two is "better" is
decided on the validation images; the test set chooses nothing.

.. code-block:: sh

    python examples/task3_two_models.py
    python examples/task3_two_models.py --seeds 0,1,2
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_two_models/task3b.webp"
from _arguments import Arguments, turn, written

import cifarzoo as zoo

REPORT = {
    "report_model1": {"loss": 0.4064, "train": 0.8647, "val": 0.7554, "test": 0.7522},
    "report_model2": {"loss": 0.3024, "train": 0.8935, "val": 0.7954, "test": 0.7907},
}


def two_models(args: Arguments) -> None:
    """Print 3a and 3b; draw the curves of the one that validates better."""
    histories: dict[str, list[zoo.History]] = {}
    validated: dict[str, float] = {}
    for name, reported in REPORT.items():
        card = zoo.model_card(name)
        recipe = card.recipe
        runs = [args.run(card, seed) for seed in args.seeds]
        figures = {
            "loss": [run.train.loss for run in runs if run.train],
            "train": [run.train.accuracy for run in runs if run.train],
            "val": [run.val.accuracy for run in runs if run.val],
            "test": [run.test.accuracy for run in runs if run.test],
        }
        print(f"3a  {name}: {card.summary} {zoo.count_params(runs[0].model):,} parameters,")
        print(f"    {recipe.optimizer}, lr {recipe.lr:g}, batches of {recipe.batch_size}")
        print(f"3b  {'figure':<10} {'ours':>17} {'report':>8}   (loss and train: training images)")
        for figure, values in figures.items():
            print(f"    {figure:<10} {written(values, '.4f'):>17} {reported[figure]:>8.4f}")
        print()
        histories[name] = [run.history for run in runs]
        validated[name] = zoo.mean_and_std(figures["val"]).mean

    better = max(validated, key=lambda name: validated[name])  # the test set chooses nothing
    print(f"The better one by the validation split: {better}")
    title = f"Task 3b: {better}"
    curves = zoo.viz.plot_histories({better: histories[better]}, title=title)
    args.save(curves, "task3b.png", "Loss and validation accuracy of the better of the two.")


if __name__ == "__main__":
    turn(two_models, "Tasks 3a and 3b: two better networks.")
