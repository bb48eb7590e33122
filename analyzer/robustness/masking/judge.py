"""Every flag of one attack on one model, judged on samples that are decided rightly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.measures.random_streams import stream
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.threat import Norm, check_epsilon, check_norm
from analyzer.robustness.decisions import decided
from analyzer.robustness.masking import flags
from analyzer.robustness.masking.flags import Flag
from analyzer.robustness.masking.probes import Probed

Array = NDArray[Any]
Bools = NDArray[np.bool_]

N_SAMPLES = 256
"""Most samples that flags are judged on."""
RADII = 4
"""Most radii at which a curve is drawn anew."""


def masking_flags(
    attacked: Attacked,
    u: Array,
    y: Array,
    epsilons: Array,
    distances: Array,
    *,
    norm: Norm = "linf",
    seed: int = 0,
    n_samples: int = N_SAMPLES,
) -> list[Flag]:
    """Signs that an attack failed where the model would not have held; none for a model that is always wrong.

    Args:
        attacked: The model.
        u: Samples from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        epsilons: The radii of the attack, in units of the box.
        distances: ``(n,)`` what it found, in units of the box: infinity for samples that it could not fool.
        norm: What steps are measured in.
        seed: Of everything random, the choice of samples included.
        n_samples: Most samples to judge on, drawn from those that are decided rightly.

    Raises:
        ConfigError: If the norm is unknown, radii are not above 0, or a number is below 1.
    """
    check_norm(norm)
    radii = np.unique(check_epsilon(epsilons))
    if n_samples < 1:
        raise ConfigError(f"n_samples={n_samples}: expected 1 or more.")
    right = np.flatnonzero(attacked.correct(u, y))
    if not len(right):
        return []
    rows = np.sort(stream(seed, 2).permutation(right)[:n_samples])
    probed = Probed(attacked=attacked, u=u[rows].astype(np.float32), y=y[rows], norm=norm, seed=seed)
    classes = decided(attacked.all_logits(u.astype(np.float32)))
    return [flag for flag in _all(probed, radii, distances[rows], classes) if flag is not None]


def _all(probed: Probed, radii: Array, distances: Array, classes: Array) -> list[Flag | None]:
    found: list[Flag | None] = [flags.few_classes(probed.attacked.n_classes, len(probed.u))]
    changing = flags.randomised(probed.passes())
    if changing is not None:
        # Other signs would be judged on one draw of what is random.
        return [*found, changing]
    z = probed.attacked.all_logits(probed.u)
    found += [flags.batch_dependent(z, probed.logits_among_others())]
    found += _of_outputs(probed, z, distances <= radii[-1])
    epsilon = _telling(radii, distances)
    many = _curve(probed, radii, epsilon)
    found += _of_other_attacks(probed, z, epsilon, many[epsilon], distances <= epsilon)
    fooled = np.stack(list(many.values()))
    found += [flags.curve_not_monotone(np.array(list(many)), fooled, distances)]
    # Any sample that is decided otherwise is within reach then; a model that decides all alike hides nothing.
    otherwise = np.array([np.any(classes != label) for label in probed.y])
    survived = probed.hold_anywhere(np.isinf(distances) & otherwise)
    return [*found, flags.unbounded_fails(survived, probed.attacked.n_classes)]


def _of_outputs(probed: Probed, z: Array, fallen: Bools) -> list[Flag | None]:
    single = probed.attacked.view.heads[0].shape[-1] == 1
    return [
        flags.probability_outputs(z[:, 1:] if single else z),
        flags.logit_scale(_margins(z, probed.y)),
        flags.zero_gradients(probed.vanishing(), fallen),
    ]


def _of_other_attacks(probed: Probed, z: Array, epsilon: float, many: Bools, fallen: Bools) -> list[Flag | None]:
    """What others find within one ε that gradients, or the attack that is judged, do not."""
    around = probed.margins_around(epsilon)
    noise, square = np.any(around >= 0, axis=0), probed.square(epsilon, ~many)
    # What others found that steps towards the likeliest class did not may still fall to steps towards each class.
    gradients = many | probed.targeted(epsilon, (noise | square) & ~many)
    return [
        flags.saturated_loss(_margins(z, probed.y), around, np.abs(z).max(axis=1), fallen),
        flags.one_step_beats_iterative(probed.one_step(epsilon), many, fallen),
        flags.noise_beats_gradients(noise, gradients),
        flags.square_beats_gradients(square, gradients),
    ]


def _telling(radii: Array, distances: Array) -> float:
    """The radius at which nearest to half of the samples fell: there one attack can differ most from another."""
    robust = np.array([np.mean(distances > radius) for radius in radii])
    return float(radii[np.abs(robust - 0.5).argmin()])


def _curve(probed: Probed, radii: Array, epsilon: float) -> dict[float, Bools]:
    """Samples that fall within each of a few radii, one of them given, ascending; each is attacked anew."""
    few = radii[np.unique(np.linspace(0, len(radii) - 1, RADII).round().astype(int))]
    return {float(radius): probed.many_steps(float(radius)) for radius in sorted({*few.tolist(), epsilon})}


def _margins(z: Array, y: Array) -> NDArray[np.float64]:
    """Largest other logit minus that of the true class."""
    wide = np.asarray(z, np.float64)
    own = np.arange(wide.shape[1]) == y[:, None]
    return np.asarray(np.where(own, -np.inf, wide).max(axis=1) - wide[own])
