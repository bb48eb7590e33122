"""Our attacks beside foolbox's, and our AutoAttack beside its authors' own: verdicts example by example.

Runs in the environment of `install_peers.sh`. Two nets trained on digits, and `torch.nn` modules with their weights;
samples are the held-out digits that are decided rightly. Both sides stay within 0 and 1 and the same radius, take as
many steps of the same size and begin at the samples; radii lie around the median distance that DeepFool finds. Where
verdicts differ, the points of the side that claims to have fooled the net are given to the module in float64: "stand"
says how many of them it decides wrongly and within the radius. Exits with 1 where more differ than may.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import absent_modules  # written by install_peers.sh
import keras
import numpy as np
import torch
from keras import layers
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.autoattack import autoattack
from analyzer.robustness.attacks.ddn import DDN
from analyzer.robustness.attacks.deepfool import DeepFool
from analyzer.robustness.attacks.gradient_descent import PGD
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import Box, Norm

absent_modules.install()

Array = NDArray[Any]

TRAINED_ON = 1200
"""Of the 1797 digits, the first; the others are held out."""
STEPS, STEP_SIZE = 40, 1 / 16
"""Of PGD; the size in ε."""
MOST_VERDICTS, MOST_POINTS = 1.0, 0.5
"""Most that may differ: per cent of the verdicts of PGD, DDN and DeepFool, and points of robust accuracy."""
FEW = 256
"""How many of the samples AutoAttack is run on: of 5000 queries each."""
QUANTILES = (0.25, 0.4, 0.5, 0.6, 0.75)
"""Of the distances that DeepFool finds: the radii, of which AutoAttack is run at every second."""
ROUNDING = 1e-5
"""What float32 may add to the length of a step."""
CLASSES = 10
NORMS_COMPARED: tuple[Norm, ...] = ("linf", "l2")
COLUMNS = ("attack", "net", "norm", "epsilon", "n", "ours", "peer", "differ", "%", "points", "stand", "stand", "ratio")
WIDTHS = (10, 4, 5, 8, 4, 5, 5, 7, 6, 7, 8, 8, 7)
"""Of the columns: how many are fooled, how many verdicts differ, the difference of robust accuracy, whose points stand
(ours, then the peer's), and the median of our distances by theirs."""


@dataclass(frozen=True)
class Verdicts:
    """Which samples an attack fools, and with what."""

    fooled: NDArray[np.bool_]
    points: NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A net twice, and samples from 0 to 1, ``(n, 8, 8, 1)``, that it decides rightly."""

    name: str
    attacked: Attacked
    module: nn.Module
    x: NDArray[np.float32]
    y: NDArray[np.int64]

    @property
    def images(self) -> torch.Tensor:
        """The samples, channels first."""
        return torch.tensor(self.x).permute(0, 3, 1, 2).contiguous()

    @property
    def labels(self) -> torch.Tensor:
        """Their classes."""
        return torch.tensor(self.y)

    def first(self, n: int) -> Case:
        """The same with the first n samples."""
        return replace(self, x=self.x[:n], y=self.y[:n])

    def back(self, points: torch.Tensor) -> NDArray[np.float32]:
        """Points as ours are, channels last."""
        return points.detach().permute(0, 2, 3, 1).numpy()

    def stand(self, found: Verdicts, rows: NDArray[np.bool_], norm: Norm, epsilon: float) -> str:
        """How many points of these rows the module decides wrongly, in float64, within the bounds and the radius."""
        points, x = found.points[rows].astype(np.float64), self.x[rows].astype(np.float64)
        images = torch.tensor(points).permute(0, 3, 1, 2).contiguous()
        self.module.double()
        wrong = self.module(images).argmax(1).numpy() != self.y[rows]
        self.module.float()
        inside = (np.abs(points - 0.5) <= 0.5 + ROUNDING).all((1, 2, 3))
        standing = wrong & inside & (lengths(points - x, norm) <= epsilon + ROUNDING)
        return f"{np.count_nonzero(standing)} of {np.count_nonzero(rows)}"


class ChannelsLast(nn.Module):
    """Images as Keras flattens them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x.permute(0, 2, 3, 1).flatten(1)


def mlp() -> keras.Sequential:
    """64-64-32-10 with ReLU, of images."""
    hidden = [layers.Dense(64, "relu"), layers.Dense(32, "relu")]
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *hidden, layers.Dense(CLASSES)])


def cnn() -> keras.Sequential:
    """Two convolutions with ReLU, max-pooling between them, and a dense layer."""
    first, second = (layers.Conv2D(filters, 3, padding="same", activation="relu") for filters in (12, 24))
    parts = [first, layers.MaxPooling2D(), second, layers.Flatten(), layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((8, 8, 1)), *parts])


def twin(model: keras.Sequential) -> nn.Sequential:
    """The same layers with the same weights as `torch.nn`, channels first."""
    parts: list[nn.Module] = []
    for layer in model.layers:
        if isinstance(layer, layers.Flatten):
            parts.append(ChannelsLast())
        elif isinstance(layer, layers.MaxPooling2D):
            parts.append(nn.MaxPool2d(2))
        else:
            kernel, bias = layer.get_weights()
            if isinstance(layer, layers.Conv2D):
                part, kernel = nn.Conv2d(*kernel.shape[2:], 3, padding=1), kernel.transpose(3, 2, 0, 1)
            else:
                part, kernel = nn.Linear(*kernel.shape), kernel.T
            part.load_state_dict({"weight": torch.tensor(kernel.copy()), "bias": torch.tensor(bias)})
            parts += [part, nn.ReLU()] if layer.activation is keras.activations.relu else [part]
    return nn.Sequential(*parts).eval().requires_grad_(False)


def cases() -> Iterator[Case]:
    """The MLP and the CNN, trained."""
    data = load_digits()
    x, y = (data.images / 16).astype("float32")[..., None], data.target.astype(np.int64)
    held, truth = x[TRAINED_ON:], y[TRAINED_ON:]
    for build in (mlp, cnn):
        keras.utils.set_random_seed(0)
        model = build()
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x[:TRAINED_ON], y[:TRAINED_ON], epochs=15, verbose=0)
        view, module = open_model(model, x[:1]), twin(model)
        attacked = Attacked(view=view, box=Box(low=0.0, high=1.0, source="given"), batch_size=len(held))
        logits, theirs = attacked.all_logits(held), module(torch.tensor(held).permute(0, 3, 1, 2)).numpy()
        assert np.abs(logits - theirs).max() <= 1e-4, "the torch copy's logits differ"
        right = attacked.correct(held, truth)
        yield Case(build.__name__, attacked, module, held[right], truth[right])


def lengths(steps: Array, norm: Norm) -> NDArray[np.float64]:
    """Norms of steps, ``(n,)``."""
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(steps.reshape(len(steps), int(np.prod(steps.shape[1:]))).astype(np.float64), order, axis=1)


def pgd(case: Case, norm: Norm, epsilon: float) -> tuple[Verdicts, Verdicts]:
    """Ours judges every point on the way, foolbox the last alone."""
    import foolbox as fb

    attack = PGD(loss="cross_entropy", norm=norm, steps=STEPS, step_size=STEP_SIZE)
    found = attack.run(case.attacked, case.x, case.y, np.full(len(case.x), epsilon))
    make = {"linf": fb.attacks.LinfPGD, "l2": fb.attacks.L2PGD}[norm]
    peer = make(rel_stepsize=STEP_SIZE, steps=STEPS, random_start=False)
    _, points, fooled = peer(_foolbox(case), case.images, case.labels, epsilons=epsilon)
    return Verdicts(found.fooled, found.points), Verdicts(fooled.numpy(), case.back(points))


def minimum_norm(case: Case, name: str, norm: Norm) -> tuple[Distances, Distances]:
    """What DDN or DeepFool finds with the defaults that both sides share."""
    import foolbox as fb

    attack, peer = {
        ("DDN", "l2"): (DDN(), fb.attacks.DDNAttack()),
        ("DeepFool", "l2"): (DeepFool(norm="l2"), fb.attacks.L2DeepFoolAttack()),
        ("DeepFool", "linf"): (DeepFool(norm="linf"), fb.attacks.LinfDeepFoolAttack()),
    }[name, norm]
    images, _, fooled = peer(_foolbox(case), case.images, case.labels, epsilons=None)
    points = case.back(images)
    reached = np.where(fooled.numpy(), lengths(points - case.x, norm), np.inf)
    return attack.run(case.attacked, case.x, case.y), Distances(distance=reached, points=points)


def _foolbox(case: Case) -> Any:
    import foolbox as fb

    return fb.PyTorchModel(case.module, bounds=(0, 1), device="cpu")


def both_autoattacks(case: Case, norm: Norm, epsilon: float) -> tuple[Verdicts, Verdicts]:
    """The standard version, ours and that of github.com/fra31/auto-attack on the module."""
    from autoattack import AutoAttack

    found = autoattack(CLASSES, norm=norm).run(case.attacked, case.x, case.y, np.full(len(case.x), epsilon))
    name = {"linf": "Linf", "l2": "L2"}[norm]
    peer = AutoAttack(case.module, norm=name, eps=epsilon, seed=0, verbose=False, device="cpu")
    points = peer.run_standard_evaluation(case.images, case.labels, bs=len(case.x))
    fooled = (case.module(points).argmax(1) != case.labels).numpy()
    return Verdicts(found.fooled, found.points), Verdicts(fooled, case.back(points))


class Table:
    """Prints a line per comparison, and remembers those where more differs than may."""

    def __init__(self) -> None:
        self.over: list[str] = []
        self._print(*COLUMNS)

    def add(
        self, case: Case, attack: str, norm: Norm, epsilon: float, both: tuple[Verdicts, Verdicts], more: str = ""
    ) -> None:
        """One line.

        Args:
            case: What was attacked.
            attack: With what.
            norm: Of the threat.
            epsilon: Its radius.
            both: Our verdicts and those of the other library.
            more: What else is to be said.
        """
        ours, peer = both
        n, only = len(case.x), (ours.fooled & ~peer.fooled, peer.fooled & ~ours.fooled)
        counts = [int(np.count_nonzero(each.fooled)) for each in both]
        differ = int(np.count_nonzero(only[0] | only[1]))
        share, points = 100 * differ / n, 100 * abs(counts[0] - counts[1]) / n
        standing = [case.stand(found, rows, norm, epsilon) for found, rows in zip(both, only, strict=True)]
        cells = (attack, case.name, norm, f"{epsilon:.3f}", n, *counts, differ, f"{share:.2f}", f"{points:.2f}")
        self._print(*cells, *standing, more)
        if points > MOST_POINTS if attack == "AutoAttack" else share > MOST_VERDICTS:
            self.over.append(f"{attack}, {case.name}, {norm}, {epsilon:.3f}")

    def _print(self, *cells: Any) -> None:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True)


def beside_foolbox(table: Table, case: Case, norm: Norm, radii: list[float]) -> None:
    """PGD, DeepFool and, in L2, DDN."""
    for epsilon in radii:
        table.add(case, "PGD", norm, epsilon, pgd(case, norm, epsilon))
    for name in ("DeepFool", "DDN") if norm == "l2" else ("DeepFool",):
        found, theirs = minimum_norm(case, name, norm)
        both = np.isfinite(found.distance) & np.isfinite(theirs.distance)
        ratio = np.median(found.distance[both] / theirs.distance[both])
        for epsilon in radii:
            verdicts = [Verdicts(each.distance <= epsilon, each.points) for each in (found, theirs)]
            table.add(case, name, norm, epsilon, (verdicts[0], verdicts[1]), f"{ratio:.4f}")


def main() -> int:
    """Every comparison that what is installed allows; 1 if one of them differs by more than it may."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    installed = {name: importlib.util.find_spec(name) is not None for name in ("foolbox", "autoattack")}
    table = Table()
    for case in cases():
        few = case.first(FEW)
        for norm in NORMS_COMPARED:
            distance = DeepFool(norm=norm).run(case.attacked, case.x, case.y).distance
            radii = [round(float(radius), 3) for radius in np.quantile(distance, QUANTILES)]
            if installed["foolbox"]:
                beside_foolbox(table, case, norm, radii)
            if installed["autoattack"]:
                for epsilon in radii[::2]:
                    table.add(few, "AutoAttack", norm, epsilon, both_autoattacks(few, norm, epsilon))
    for name, there in installed.items():
        if not there:
            print(f"NOT INSTALLED: {name}; its verdicts were not compared")
    for line in table.over:
        print(f"OVER the limit: {line}")
    return int(bool(table.over))


if __name__ == "__main__":
    sys.exit(main())
