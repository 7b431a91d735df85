"""
Task 2: a baseline
==================

Three 5 × 5 convolutions with 32, 64 and 128 filters, each followed by a ReLU and 2 × 2 max pooling;
then a hidden layer of 64 units. Plain SGD with a learning rate of 0.05 and batches of 64 trains the
network for at most ten epochs.

- **2a** Plot the training and the validation loss against the training step.
- **2b** Report the final accuracies on the training, validation and test images.

The loss on 5,000 held-out images is computed twice per epoch. Training stops early when the first
of the last four validation losses is the lowest of them. The weights with the lowest validation
loss are kept. The test set is used once, at the end.

.. recorded::

After about two thousand steps the training loss falls below the validation loss, and the gap
between the two widens: the network overfits. The dotted line marks the weights that were kept,
those with the lowest validation loss; all accuracies are theirs.

How close are our figures to the report's? The report describes one run. The interval of a single
test accuracy is what 10,000 images allow, and runs with different seeds differ by about as much, so
the table shows the mean and standard deviation over three seeds.

.. code-block:: sh

    python examples/task2_baseline.py                           # one run
    python examples/task2_baseline.py --data shapes --quick     # a trial run that needs no data
    python examples/task2_baseline.py --seeds 0,1,2             # with an error bar
    python examples/task2_baseline.py --results results         # reads the recorded runs
"""

# sphinx_gallery_thumbnail_path = "recorded/task2_baseline/task2a.webp"
from _example import Options, print_accuracies, print_origin, run_example
from experiments import EXPERIMENTS

import cifarzoo as zoo


def baseline(options: Options) -> None:
    """Train the baseline, print 2b, plot 2a."""
    experiment = EXPERIMENTS["baseline"]
    model = experiment.card.builder(10)
    print(f"The network: {zoo.count_params(model):,} parameters")
    for row in zoo.layer_table(model):
        if row.params:
            print(f"  {row.name:<22} {row.params:>8,} parameters {row.macs:>11,} MACs")
    print(flush=True)

    runs = options.runs(experiment)
    print_accuracies("2b", experiment, runs)
    for run in runs:
        history = run.history
        print(f"\nseed {run.seed}: {run.test}")
        print(f"  {history.steps:,} steps (stopped: {history.stopped}),", end=" ")
        print(f"kept step {history.best_step:,}; {history.images_per_second:,.0f} images/s")
    print_origin(runs)
    curves = zoo.viz.plot_history(runs[0].history, title="Task 2a")
    options.save(curves, "task2a.png", "Loss and accuracy of the baseline against training step.")


if __name__ == "__main__":
    run_example(baseline, "Task 2: the baseline.")
