"""`AnalysisConfig`: every option of an analysis, validated once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from analyzer.errors import ConfigError

PlotStyle = Literal["publication", "presentation", "draft"]
SaveFormat = Literal["png", "pdf", "svg"]
Norm = Literal["linf", "l2", "l1"]
Tier = Literal["screen", "standard", "full"]
Progress = bool | Callable[[str, int, int], None]

TASKS = ("binary", "multiclass", "multilabel", "regression", "gaussian", "quantile", "sequence", "segmentation")
"""Words that `task` understands. A quantile head is written with its levels: ``"quantile:0.1,0.5,0.9"``."""

ANALYSES = (
    "weights",
    "calibration",
    "information_flow",
    "training_dynamics",
    "cost",
    "relevance",
    "robustness",
    "shift",
)
"""The analyses that have a switch ``analyze_<name>``, in the order in which they run."""


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """Options of an analysis.

    Attributes:
        analyze_weights: Describe every weight tensor and judge its health.
        analyze_calibration: Compare confidence with correctness.
        analyze_information_flow: Follow activations through the layers.
        analyze_training_dynamics: Read training histories, where given.
        analyze_cost: Count parameters, memory and operations, and time the forward pass.
        analyze_relevance: Explain decisions: which inputs, layers and units carry them. Off by default for its cost.
        analyze_robustness: Attack and corrupt the inputs of classifiers: how far until decisions are wrong. Off by
            default for its cost.
        analyze_shift: Compare the data with ``reference_data`` of `ModelAnalyzer.analyze`, where given: whether they
            have shifted, where in the model, and whether that does harm.
        evaluate_train: Evaluate the training data too, given as ``reference_data`` of `ModelAnalyzer.analyze`, for the
            gap of loss and metrics without dropout.
        n_samples: Most samples to look at, drawn seeded and stratified by class; None looks at all.
        weight_layer_types: Layer class names whose weights are reported, e.g. ``["Dense", "Conv2D"]``; None reports
            all. Narrows rows, never totals.
        analyze_biases: Also report biases, scales and other one-dimensional variables. Narrows rows, never totals.
        compute_weight_pca: Place models of one architecture by the principal components of their weight statistics.
        calibration_bins: Number of bins of the binned calibration measures.
        smooth_training_curves: Draw training curves as moving averages.
        smoothing_window: Epochs in one moving average; any whole number from 1.
        metric_directions: ``"up"`` (more is better) or ``"down"`` by the name of a logged metric, without ``val_``, for
            metrics of your own; it beats the names that are known.
        pareto_analysis_threshold: Fewest models with the needed values for which the Pareto analysis is made without
            being asked for.
        plot_style: ``"publication"`` (print, column width), ``"presentation"`` (large) or ``"draft"`` (fast).
        save_plots: Write figures to the output folder.
        save_format: File format of figures.
        dpi: Resolution of raster figures, in dots per inch.
        max_layers_heatmap: Most layers in the weight health heatmap; those that matter most are kept.
        max_layers_info_flow: Most layers in the figures of information flow and relevance; those that matter most are
            kept.
        relevance_method: Method or preset of the relevance analysis; ``"auto"`` chooses by the layers found.
        relevance_samples: Most samples to explain, drawn seeded and stratified by class.
        robustness_tier: How hard to attack: ``"screen"`` (multi-targeted margin PGD), ``"standard"`` (APGD as well) or
            ``"full"`` (AutoAttack standard as well).
        robustness_norm: Norm of the steps of attacks: ``"linf"``, ``"l2"`` or ``"l1"``.
        robustness_epsilon: The largest radius that attacks look at, in the units of the data; None for a tenth of the
            range of inputs, which is a radius in Linf alone.
        robustness_bounds: Smallest and largest value of inputs; None for what a `Rescaling` layer of the model tells,
            or as far as the data reach.
        robustness_samples: Most samples to attack and to corrupt, drawn seeded and stratified by class.
        verbose: Log each analysis of each model at level INFO.
        task: What the models predict: one word of `TASKS` for all models, or a mapping from model name (or output
            name) to a word. None detects it.
        from_logits: Whether outputs are logits: one answer for all, or by model name. None detects it.
        class_names: Names of the classes for tables and figures.
        n_bootstrap: Bootstrap draws behind each interval; 0 computes no intervals.
        seed: Seed of every random choice that the analysis makes.
        batch_size: Samples per batch of the gather pass; a model's fixed batch size goes before it.
        progress: True draws bars for what takes over a second when standard error is a terminal, False is silent, and
            a callable receives ``(label, done, total)``.
        deterministic: Switch the backend to deterministic kernels while analysing; two runs are then bit-equal.
        json_include_per_sample_data: Write per-sample arrays into the JSON itself instead of `analysis_arrays.npz`.

    Raises:
        ConfigError: For an unknown option or a value outside its range.
    """

    analyze_weights: bool = True
    analyze_calibration: bool = True
    analyze_information_flow: bool = True
    analyze_training_dynamics: bool = True
    analyze_cost: bool = True
    analyze_relevance: bool = False
    analyze_robustness: bool = False
    analyze_shift: bool = True
    evaluate_train: bool = False
    n_samples: int | None = 1000
    weight_layer_types: Sequence[str] | None = None
    analyze_biases: bool = False
    compute_weight_pca: bool = True
    calibration_bins: int = 15
    smooth_training_curves: bool = True
    smoothing_window: int = 5
    metric_directions: Mapping[str, Literal["up", "down"]] | None = None
    pareto_analysis_threshold: int = 2
    plot_style: PlotStyle = "publication"
    save_plots: bool = True
    save_format: SaveFormat = "png"
    dpi: int = 300
    max_layers_heatmap: int = 12
    max_layers_info_flow: int = 8
    relevance_method: str = "auto"
    relevance_samples: int = 64
    robustness_tier: Tier = "screen"
    robustness_norm: Norm = "linf"
    robustness_epsilon: float | None = None
    robustness_bounds: tuple[float, float] | None = None
    robustness_samples: int = 256
    verbose: bool = True
    task: str | Mapping[str, str] | None = None
    from_logits: bool | Mapping[str, bool] | None = None
    class_names: Sequence[str] | None = None
    n_bootstrap: int = 1000
    seed: int = 0
    batch_size: int = 128
    progress: Progress = True
    deterministic: bool = False
    json_include_per_sample_data: bool = False

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Refuse unknown options by name, with the nearest known one."""
        del args
        check_names(options, [f.name for f in fields(cls)], what="option")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in ("calibration_bins", "smoothing_window", "dpi", "max_layers_heatmap", "max_layers_info_flow"):
            _check_whole(name, getattr(self, name), at_least=1)
        _check_whole("pareto_analysis_threshold", self.pareto_analysis_threshold, at_least=1)
        _check_whole("batch_size", self.batch_size, at_least=1)
        _check_whole("relevance_samples", self.relevance_samples, at_least=1)
        _check_whole("robustness_samples", self.robustness_samples, at_least=1)
        _check_whole("n_bootstrap", self.n_bootstrap, at_least=0)
        _check_whole("seed", self.seed, at_least=0)
        if self.n_samples is not None:
            _check_whole("n_samples", self.n_samples, at_least=1)
        _check_choice("plot_style", self.plot_style, get_args(PlotStyle))
        _check_choice("save_format", self.save_format, get_args(SaveFormat))
        for f in fields(self):
            if f.type == "bool" and not isinstance(getattr(self, f.name), bool):
                raise ConfigError(f"{f.name}={getattr(self, f.name)!r}: expected True or False.")
        if not (isinstance(self.progress, bool) or callable(self.progress)):
            raise ConfigError(f"progress={self.progress!r}: expected True, False or a callable (label, done, total).")
        self._check_words()
        self._check_threat()

    def _check_threat(self) -> None:
        _check_choice("robustness_tier", self.robustness_tier, get_args(Tier))
        _check_choice("robustness_norm", self.robustness_norm, get_args(Norm))
        radius, bounds = self.robustness_epsilon, self.robustness_bounds
        if radius is not None and not (_is_number(radius) and 0 < radius < float("inf")):
            raise ConfigError(f"robustness_epsilon={radius!r}: expected a finite radius above 0, in units of the data.")
        if radius is None and self.robustness_norm != "linf":
            raise ConfigError(
                f"robustness_norm={self.robustness_norm!r} has no usual radius: give robustness_epsilon, in units of "
                "the data."
            )
        if bounds is not None:
            pair = tuple(bounds) if isinstance(bounds, Sequence) and not isinstance(bounds, str) else ()
            if len(pair) != 2 or not all(map(_is_number, pair)) or not pair[0] < pair[1]:
                raise ConfigError(f"robustness_bounds={bounds!r}: expected (low, high) with low < high.")
            object.__setattr__(self, "robustness_bounds", (float(pair[0]), float(pair[1])))

    def _check_words(self) -> None:
        if not isinstance(self.relevance_method, str) or not self.relevance_method:
            raise ConfigError(
                f"relevance_method={self.relevance_method!r}: expected 'auto' or the name of a method, such as "
                "'epsilon_plus'."
            )
        for name in ("weight_layer_types", "class_names"):
            value = getattr(self, name)
            words = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
            if value is not None and not all(isinstance(word, str) for word in words):
                raise ConfigError(f"{name}={value!r}: expected a list of names, such as ['Dense', 'Conv2D'].")
            # A tuple of plain words, whatever iterable came (an array of names, an iterator).
            object.__setattr__(self, name, None if value is None else tuple(map(str, words)))
        directions = {} if self.metric_directions is None else self.metric_directions
        if not isinstance(directions, Mapping) or not set(directions.values()) <= {"up", "down"}:
            raise ConfigError(
                f"metric_directions={self.metric_directions!r}: expected 'up' (more is better) or 'down' by metric."
            )
        tasks = self.task.values() if isinstance(self.task, Mapping) else [self.task]
        for task in tasks:
            if task is not None:
                parse_task(task)
        answers = self.from_logits.values() if isinstance(self.from_logits, Mapping) else [self.from_logits]
        if not all(answer is None or isinstance(answer, bool) for answer in answers):
            raise ConfigError(f"from_logits={self.from_logits!r}: expected True, False, None or a mapping to those.")

    def class_name(self, number: int) -> str:
        """The name of a class, or its number where it has none.

        Args:
            number: From 0.
        """
        names = self.class_names or ()
        return str(names[number]) if number < len(names) else f"class {number}"

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read options from a TOML file whose keys are the names of the options.

        Args:
            path: The file. A table ``[keras-analyzer]`` is used where there is one, else the top level.

        Raises:
            ConfigError: If the file cannot be read, is not TOML, or names an unknown option.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error
        options = document.get("keras-analyzer", document)
        if not isinstance(options, dict):
            raise ConfigError(f"{path}: expected a table [keras-analyzer] of options, got {options!r}.")
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """All options as plain JSON values; a progress callable becomes True."""
        # Not dataclasses.asdict, which copies deeply: a progress callable may belong to what cannot be copied.
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["progress"] = bool(plain["progress"])
        for name in ("weight_layer_types", "class_names"):
            plain[name] = None if plain[name] is None else list(plain[name])
        plain["robustness_bounds"] = None if self.robustness_bounds is None else list(self.robustness_bounds)
        for name in ("task", "from_logits", "metric_directions"):
            plain[name] = dict(plain[name]) if isinstance(plain[name], Mapping) else plain[name]
        return plain


def parse_task(task: str) -> tuple[str, tuple[float, ...]]:
    """Split a task word from its quantile levels.

    Args:
        task: A word of `TASKS`, or ``"quantile:0.1,0.5,0.9"``.

    Returns:
        The word, and the levels (empty unless it is a quantile task).

    Raises:
        ConfigError: If the word is unknown or the levels are not ascending numbers within (0, 1).
    """
    word, _, tail = str(task).partition(":")
    _check_choice("task", word, TASKS)
    if word != "quantile":
        if tail:
            raise ConfigError(f"task={task!r}: only a quantile task takes levels after a colon.")
        return word, ()
    try:
        levels = tuple(float(level) for level in tail.split(","))
    except ValueError:
        levels = ()
    if not levels or list(levels) != sorted(set(levels)) or not all(0 < level < 1 for level in levels):
        raise ConfigError(f"task={task!r}: write ascending levels between 0 and 1, as in 'quantile:0.1,0.5,0.9'.")
    return word, levels


def check_names(given: Mapping[str, Any] | Sequence[str], known: Sequence[str], *, what: str) -> None:
    """Raise `ConfigError` for the first unknown name, with the nearest known one.

    Args:
        given: Names that came.
        known: Names that exist.
        what: What a name stands for, for the message.

    Raises:
        ConfigError: If a name is not known.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
            raise ConfigError(f"Unknown {what} {name!r}.{hint}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_whole(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name}={value!r}: expected a whole number of at least {at_least}.")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}.{hint}")
