"""
Task 3a, 3b: two better networks
================================

- **3a** Design two networks that reach 75 % test accuracy, and describe them.
- **3b** Report their losses and accuracies, and plot the curves of the better one.

**Model 1** has the structure of the baseline, with twice the filters in every layer, batch norm
after every convolution, and batches of 32. **Model 2** replaces each 5 × 5 convolution by two of 3
× 3, which cover the same 5 × 5 pixels with fewer parameters and a ReLU in between; it has batch
norm, a little dropout after each block, and is trained with Adam instead of SGD.

.. recorded::

Model 2 is ahead by several points with a third of the parameters. The validation split decides
which of the two is "better"; the test set is not used for any choice.

.. code-block:: sh

    python examples/task3_two_models.py
    python examples/task3_two_models.py --seeds 0,1,2
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_two_models/task3b.webp"
from statistics import fmean

from _example import Options, accuracy, print_accuracies, print_origin, run_example, summarize
from experiments import EXPERIMENTS

import cifarzoo as zoo


def two_models(options: Options) -> None:
    """Print 3a and 3b; plot the curves of the model with the higher validation accuracy."""
    found = {}
    for name in ("model1", "model2"):
        experiment = EXPERIMENTS[name]
        card, recipe = experiment.card, experiment.card.recipe
        runs = found[experiment.title] = options.runs(experiment)
        print(f"3a  {experiment.title}: {card.summary} {runs[0].params:,} parameters,")
        print(f"    {recipe.optimizer}, lr {recipe.lr:g}, batches of {recipe.batch_size}")
        print_accuracies("3b", experiment, runs)
        losses = summarize([run.train.loss for run in runs if run.train], ".4f")
        reported = experiment.reported.train_loss if experiment.reported else 0
        print(f"    {'train loss':<10} {losses:>16} {reported:>8.4f}\n")

    better = max(found, key=lambda title: fmean(accuracy(run, "val") for run in found[title]))
    print(f"Better on the validation split: {better}")
    print_origin(found[better])
    histories = {better: [run.history for run in found[better]]}
    curves = zoo.viz.plot_histories(histories, title=f"Task 3b: {better.lower()}")
    options.save(curves, "task3b.png", "Loss and validation accuracy of the better of the two.")


if __name__ == "__main__":
    run_example(two_models, "Tasks 3a and 3b: two better networks.")
