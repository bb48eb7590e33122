"""Our attacks beside foolbox, torchattacks, ART and cleverhans: the price of PGD-20.

Runs in the environment of `install_peers.sh` (`make bench-peers`). Each attack stands between two runs of the floor, 20
forward and backward passes of the same weights as `torch.nn` to the inputs alone; a figure is the median of attack /
mean of its two neighbours. Every line of the output is one JSON object; what is not installed, or fails, says so.
`peers_verdicts.py` compares what the attacks find.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import absent_modules  # written by install_peers.sh
import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.gradient_descent import PGD
from analyzer.robustness.attacks.threat import Box
from benchmarks.nets import NETS, Net
from benchmarks.peer_nets import as_torch, copied
from benchmarks.peers_relevance import REPETITIONS, compare

absent_modules.install()

STEPS, BATCH, EPSILON = 20, 64, 0.02
NAMES = ("mlp", "cnn")
UNIT = Box(low=0.0, high=1.0, source="given")
Run = Callable[[], Any]


def floor(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Run:
    """As many gradients of the loss to the inputs as the attacks have steps; parameters are frozen."""

    def run() -> None:
        for _ in range(STEPS):
            point = x.detach().requires_grad_()
            torch.autograd.grad(nn.functional.cross_entropy(module(point), y, reduction="sum"), point)

    return run


def attacks(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, Callable[[], Run]]:
    """How each library is asked for PGD-20 in Linf, steps of ε/8, no random start."""
    step = EPSILON / 8

    def foolbox() -> Run:
        import foolbox as fb

        model = fb.PyTorchModel(module, bounds=(0, 1), device="cpu")
        attack = fb.attacks.LinfPGD(abs_stepsize=step, steps=STEPS, random_start=False)
        return lambda: attack(model, x, y, epsilons=EPSILON)

    def torchattacks() -> Run:
        import torchattacks as ta

        attack = ta.PGD(module, eps=EPSILON, alpha=step, steps=STEPS, random_start=False)
        return lambda: attack(x, y)

    def art() -> Run:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        estimator = PyTorchClassifier(
            model=module, loss=nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=10, clip_values=(0, 1)
        )
        attack = ProjectedGradientDescentPyTorch(
            estimator, eps=EPSILON, eps_step=step, max_iter=STEPS, num_random_init=0, batch_size=BATCH, verbose=False
        )
        images, labels = x.numpy(), y.numpy()
        return lambda: attack.generate(images, labels)

    def cleverhans() -> Run:
        from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

        options = {"clip_min": 0.0, "clip_max": 1.0, "rand_init": False, "sanity_checks": False}
        return lambda: projected_gradient_descent(module, x, EPSILON, step, STEPS, np.inf, y=y, **options)

    return {"foolbox": foolbox, "torchattacks": torchattacks, "art": art, "cleverhans": cleverhans}


def ours(model: keras.Model, u: NDArray[np.float32], y: NDArray[np.int64]) -> Run:
    """Our PGD with the same steps on the Keras model."""
    attacked = Attacked(view=open_model(model, u[:1]), box=UNIT, batch_size=BATCH)
    attack, epsilon = PGD(loss="cross_entropy", steps=STEPS, step_size=1 / 8), np.full(len(u), EPSILON)
    return lambda: attack.run(attacked, u, y, epsilon)


def prices(net: Net, repetitions: int = REPETITIONS) -> None:
    """A line for each library on one net."""
    torch.set_num_threads(2)
    model = net.model()
    u = np.random.default_rng(0).uniform(size=(BATCH, *net.shape)).astype("float32")
    module = copied(net, model)
    x = torch.tensor(as_torch(u))
    y = module(x).argmax(1)
    lower = floor(module, x, y)
    makers = {"ours": lambda: ours(model, u, y.numpy()), **attacks(module, x, y)}
    for name, make in makers.items():
        if name != "ours" and importlib.util.find_spec(name) is None:
            _say(net=net.name, tool=name, skipped="not installed")
            continue
        try:
            found = compare(make(), lower, repetitions)
        except Exception as error:  # noqa: BLE001 - another library's failure is a line of the table
            found = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        _say(net=net.name, tool=f"{name}, PGD-{STEPS}", **found)


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    """Prices on both nets."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for net in NETS:
        if net.name in NAMES:
            prices(net)


if __name__ == "__main__":
    main()
