"""`certify`: what can be proved about the decisions of a model within a distance, by every method there is."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from analyzer.config import Norm, check_names, parse_task
from analyzer.config import Progress as ProgressSetting
from analyzer.data_types.certificates import METHODS, Certificate, Certificates
from analyzer.data_types.values import Skipped
from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection.features import check_whole
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.sources import ModelSources
from analyzer.progress import Progress
from analyzer.robustness.attacks.threat import check_norm
from analyzer.robustness.certificates.certificate_rows import ROWS, Job
from analyzer.robustness.certificates.certified_samples import Told, samples_to_certify
from analyzer.robustness.gathered_attacks import DEFAULT_SHARE

ALL = "all"


def certify(
    model: keras.Model | str | Path,
    x: Any,
    y: Any = None,
    *,
    epsilon: float | None = None,
    norm: Norm = "linf",
    methods: str | Sequence[str] = ALL,
    bounds: tuple[float, float] | None = None,
    task: str | None = None,
    n_samples: int | None = 64,
    sigma: float | None = None,
    n_draws: int = 1000,
    alpha: float = 0.001,
    batch_size: int = 128,
    seed: int = 0,
    progress: ProgressSetting = True,
) -> Certificates:
    """What can be proved about decisions within ε of each sample, and two estimates that prove nothing.

    Bounds are of three methods: interval bound propagation and the Lipschitz product speak of the model, randomised
    smoothing of the smoothed classifier made from it, with a confidence. What a bound certifies no attack can undo, so
    its share is at most the robust accuracy; what it does not certify may be robust all the same. The local Jacobian
    norm and CLEVER are estimates. The model and the process stay as they were.

    Args:
        model: A built classifier of one float input and one output, or the path of a ``.keras`` file.
        x: Samples of float values, in the model's own units.
        y: Classes, or one-hot rows; without them each sample's own decision stands for its label.
        epsilon: Length of the steps asked about, in units of the data; None for a tenth of the range of inputs (Linf
            only).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: of the steps.
        methods: ``"all"``, or names out of `analyzer.data_types.certificates.METHODS`.
        bounds: Smallest and largest value of inputs; None for what a first `Rescaling` layer or the data tell.
        task: ``"binary"`` or ``"multiclass"``, where loss and last activation tell another.
        n_samples: Most samples, drawn seeded and by class; None for all.
        sigma: Standard deviation of the noise of smoothing, in units of the data. None for half the L2 length of the
            longest step asked about, at most half the range of inputs.
        n_draws: Draws of noise per sample that smoothing rests on, besides a tenth as many that select the class.
        alpha: Probability that a radius of smoothing is wrong.
        batch_size: Most samples per batch.
        seed: Seed of every random choice.
        progress: Whether bars are drawn, or who is told of each step.

    Returns:
        A row for each method; `Skipped` with its reason where it does not cover the model.

    Raises:
        ConfigError: If an option has no such value.
        DataError: If the data are no floats, outside the bounds or do not fit the model, if labels do not fit, or if
            the model makes no decision for one of several classes.
        ModelError: If the model was never built or its file cannot be opened.
        DeviceMemoryError: If a single sample does not fit into memory.
    """
    wanted = _wanted(methods)
    _check_options(epsilon, norm, bounds, sigma, alpha)
    if task is not None:
        parse_task(task)
    for option, value in {"n_draws": n_draws, "batch_size": batch_size, "n_samples": n_samples}.items():
        if option != "n_samples" or value is not None:
            check_whole(option, value)
    sources, name = ModelSources({"model": model}), _name_of(model)
    with sources.opened("model") as live, untouched_process(), Progress(progress) as bars:
        told = Told(losses=sources.losses("model"), task=task, bounds=bounds)
        of = samples_to_certify(live, x, y, told, n_samples=n_samples, batch_size=batch_size, seed=seed)
        length = DEFAULT_SHARE * of.attacked.box.range if epsilon is None else float(epsilon)
        job = Job(of=of, norm=norm, epsilon=length, sigma=sigma, n_draws=n_draws, alpha=alpha, seed=seed)
        try:
            found = {method: _run(method, job, bars) for method in wanted}
        finally:
            of.attacked.release()
    box = of.attacked.box
    return Certificates(
        model=name,
        n=len(of.x),
        indices=of.indices,
        norm=norm,
        epsilon=length,
        low=box.low,
        high=box.high,
        bounds_source=box.source,
        labelled=of.labelled,
        accuracy=job.share(of.right) if of.labelled else None,
        seed=seed,
        methods=found,
    )


def _wanted(methods: str | Sequence[str]) -> tuple[str, ...]:
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    if not names:
        raise ConfigError(f"methods={methods!r} names none; there is {', '.join((*METHODS, ALL))}.")
    check_names(names, (*METHODS, ALL), what="method")
    return METHODS if ALL in names else tuple(name for name in METHODS if name in names)


def _check_options(epsilon: Any, norm: str, bounds: Any, sigma: Any, alpha: float) -> None:
    check_norm(norm)
    for name, value in {"epsilon": epsilon, "sigma": sigma}.items():
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise ConfigError(f"{name}={value!r}: expected a finite number above 0, in units of the data.")
    if epsilon is None and norm != "linf":
        raise ConfigError(f"norm={norm!r} has no usual radius: give epsilon, in units of the data.")
    if bounds is not None and np.shape(bounds) != (2,):
        raise ConfigError(f"bounds={bounds!r}: expected (low, high), the smallest and largest value of inputs.")
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha={alpha!r}: expected a probability between 0 and 1.")


def _name_of(model: Any) -> str:
    return Path(model).stem if isinstance(model, str | Path) else str(getattr(model, "name", "model"))


def _run(method: str, job: Job, bars: Progress) -> Certificate | Skipped:
    label, start = f"certificates: {method.replace('_', ' ')}", time.perf_counter()
    bars.step(label, 0, 1)
    try:
        found = ROWS[method](job, lambda done, total: bars.step(label, done, total))
    except Unsupported as error:
        return Skipped(str(error))
    finally:
        bars.step(label, 1, 1)
    return dataclasses.replace(found, seconds=time.perf_counter() - start)
