"""Models on the Hugging Face Hub, for the methods of `ImageClassifier`; needs `huggingface_hub`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from typing_extensions import override

from cifarzoo.display import settings_rows
from cifarzoo.errors import (
    CifarZooError,
    DownloadError,
    InvalidValueError,
    MissingExtraError,
    WeightsError,
)
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.record import Evaluation, RunRecord
from cifarzoo.registry import build_from_card, build_on_meta, model_card, packaged_weights_of
from cifarzoo.validation import expand_path
from cifarzoo.weights import count_classes, save_weights

try:
    from huggingface_hub import (
        EvalResult,
        ModelCard,
        ModelCardData,
        PyTorchModelHubMixin,
        hf_hub_download,
    )
except ImportError as error:
    message = 'huggingface_hub is not installed: pip install "cifarzoo[hub]"'
    raise MissingExtraError(message) from error

__all__ = ["HubModel", "load", "push", "save"]

WEIGHTS_FILE = "model.safetensors"  # the name that the Hub expects
_TASK = "image-classification"
_DATASETS = {  # identifier on the Hub and title, by the name in records
    "cifar10": ("uoft-cs/cifar10", "CIFAR-10"),
    "cifar100": ("uoft-cs/cifar100", "CIFAR-100"),
}


class HubModel(PyTorchModelHubMixin):
    """A classifier that is written to a folder or a repository, or read from one.

    Args:
        classifier: a model that was built by name.
        run: the run that trained it; None for that of equal weights in the package, if any.

    Raises:
        InvalidValueError: the classifier has no name, or the run trained a model of another name.
    """

    def __init__(self, classifier: ImageClassifier, run: RunRecord | None = None) -> None:
        name = classifier.name
        if name is None:
            raise InvalidValueError(
                "the model has no name: expected one from build_model or train, which can be "
                "built again; register(card) adds your own"
            )
        if run is not None and run.name != name:
            raise InvalidValueError(f"run trained {run.name!r}: expected one that trained {name!r}")
        self.classifier = classifier
        self.card = model_card(name)
        self.weights = packaged_weights_of(classifier) if run is None else None
        self.run = self.weights.run if self.weights else run
        own = build_on_meta(self.card).state_dict()
        self.num_classes = count_classes(own, classifier.state_dict()) or 10
        self._hub_mixin_config = {
            "name": name,
            "num_classes": self.num_classes,
            "class_names": classifier.class_names,
        }

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        path = save_directory / WEIGHTS_FILE
        save_weights(self.classifier, path, metadata={"model": self.card.name})
        build_from_card(self.card, path, self.num_classes)  # raises if the network was exchanged

    @classmethod
    @override
    def _from_pretrained(
        cls, *, model_id: str, config: dict[str, Any] | None = None, **options: Any
    ) -> Self:
        path = Path(model_id) / WEIGHTS_FILE
        if not path.parent.is_dir():
            path = Path(hf_hub_download(model_id, WEIGHTS_FILE, **options))
        if not (config and isinstance(config.get("name"), str)):
            raise WeightsError(f"{model_id} has no config.json with the name of a zoo model")
        return cls(build_from_card(model_card(config["name"]), path, config.get("num_classes")))

    @override
    def generate_model_card(self, *, source: str) -> ModelCard:
        """Return the contents of README.md: use, results, training and limits.

        Args:
            source: what a user passes to `from_pretrained`.
        """
        run = self.run
        data = ModelCardData(
            library_name="cifarzoo",
            pipeline_tag=_TASK,
            tags=self._hub_mixin_info.model_card_data.tags,
            license="mit" if self.weights else None,
            datasets=[_DATASETS[run.data][0]] if run and run.data in _DATASETS else None,
            metrics=["accuracy"] if run else None,
            model_name=self.card.name,
            eval_results=_eval_results(run) if run else None,
        )
        sections = (
            f"# {self.card.name}",
            f"{self.card.summary} Source: {self.card.paper or 'unknown'}.",
            _USE.format(source=source, classes=self.num_classes),
            f"## Results\n\n{self._results()}",
            f"## Training\n\n{_training(run) if run else 'Not recorded.'}",
            f"## Limits\n\n{self._limits()}",
        )
        text = "\n\n".join(sections)
        return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n")

    def _results(self) -> str:
        params = sum(each.numel() for each in self.classifier.parameters())
        rows = [("parameters", f"{params:,}")]
        for name, test in _tests(self.run):
            low, high = test.interval
            rows.append((name, f"{test.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"))
        if self.weights and self.weights.std is not None:
            seeds = f"{self.weights.mean:.2%} ± {self.weights.std:.2%}"
            rows.append((f"mean accuracy over {len(self.weights.seeds)} seeds", seeds))
        text = "No test score is recorded."
        if self.run and self.run.test:
            title = _DATASETS.get(self.run.data, ("", self.run.data))[1]
            text = f"Measured once on {self.run.test.n:,} test images ({title})."
            rows.append(("calibration error", f"{self.run.test.calibration_error:.2%}"))
        if self.weights:
            text += (
                ' The page "What the numbers mean" of the documentation of cifarzoo describes how, '
                "and which recipes were added after a test score."
            )
        if self.weights and self.weights.scores:
            rows = [*dict([*rows, *self.weights.scores.rows()]).items()]
        return f"{text}\n\n{_table(('what', 'value'), rows)}"

    def _limits(self) -> str:
        names = self.classifier.class_names or ()
        classes = ", ".join(names) if 0 < len(names) <= 20 else "listed in config.json"
        lines = [
            f"It assigns every picture to one of {self.num_classes} classes ({classes}), whatever "
            "the picture shows.",
            "It was not trained against adversarial changes, and its probabilities are not "
            "calibrated for pictures that differ from the training images.",
            "It is for teaching, research and prototypes, not for decisions about people or where "
            "an error does harm.",
        ]
        if self.run and self.run.data in _DATASETS:
            lines[1:1] = [
                "The accuracies hold for photographs of 32×32 pixels like those of "
                f"{_DATASETS[self.run.data][1]}; they do not carry over to drawings or to larger "
                "pictures that are scaled down."
            ]
        return "\n".join(f"- {line}" for line in lines)


_USE = """\
## Use

```sh
pip install "cifarzoo[hub]"
```

```python
from cifarzoo import ImageClassifier, predict

model = ImageClassifier.from_pretrained("{source}")
print(predict(model, "photo.jpg").names)
```

The model includes its preprocessing: it maps images, uint8 (N,3,H,W) or float in [0, 1], to logits
(N,{classes})."""


def _training(run: RunRecord) -> str:
    """Describe training data, recipe and machine."""
    title = _DATASETS.get(run.data, ("", run.data))[1]
    images = "training images" if run.limit is None else f"first {run.limit:,} training images"
    held_out = f", {run.recipe.val_fraction:.0%} of them held out for validation"
    facts = [
        f"Data: the {images} of {title}{held_out if run.recipe.val_fraction else ''}.",
        f"Seed {run.seed}, {run.provenance.date[:10]}, {run.provenance.machine}, "
        f"cifarzoo {run.provenance.source}.",
        f"Started from {run.initial_weights}." if run.initial_weights else "",
        f"Teacher: {run.teacher}." if run.teacher else "",
        run.note,
    ]
    recipe = _table(("setting", "value"), settings_rows(run.recipe))
    return "\n\n".join((*filter(None, facts), recipe))


def _tests(run: RunRecord | None) -> list[tuple[str, Evaluation]]:
    """Return the test scores of a run with their names."""
    found = [] if run is None else [run.test, run.test_tta]
    return [
        ("accuracy" if each.tta == "none" else f"accuracy, test-time augmentation {each.tta}", each)
        for each in found
        if each is not None
    ]


def _eval_results(run: RunRecord) -> list[EvalResult]:
    identifier, title = _DATASETS.get(run.data, (run.data, run.data))
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=identifier,
            dataset_name=title,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=name,
            metric_value=test.accuracy,
        )
        for name, test in _tests(run)
    ]


def _table(header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ("---", "---"), *rows]
    cells = ([cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {first} | {second} |" for first, second in cells)


def save(model: ImageClassifier, folder: str | Path, run: RunRecord | None) -> None:
    """Write a classifier into a folder, as `ImageClassifier.save_pretrained`."""
    path = expand_path("save_directory", folder)
    HubModel(model, run).save_pretrained(path, model_card_kwargs={"source": "path/to/folder"})


def push(
    model: ImageClassifier,
    repo_id: str,
    run: RunRecord | None,
    **options: Any,  # noqa: ANN401 - those of huggingface_hub
) -> str:
    """Upload a classifier to a repository, as `ImageClassifier.push_to_hub`."""
    readme = {"source": repo_id}
    return HubModel(model, run).push_to_hub(repo_id, model_card_kwargs=readme, **options)


def load(
    name_or_path: str | Path,
    **options: Any,  # noqa: ANN401 - those of huggingface_hub
) -> ImageClassifier:
    """Read a classifier from a folder or a repository, as `ImageClassifier.from_pretrained`."""
    folder = expand_path("name_or_path", name_or_path)
    is_local = folder.is_dir()
    try:
        return HubModel.from_pretrained(folder if is_local else name_or_path, **options).classifier
    except CifarZooError:
        raise
    # huggingface_hub raises an AttributeError if config.json holds no object.
    except (AttributeError, OSError, ValueError) as error:
        kind = WeightsError if is_local else DownloadError
        raise kind(
            f"cannot load {name_or_path}: expected a folder that save_pretrained wrote, or the "
            f"name of such a repository ({error})"
        ) from error
