"""Which inputs and which layers carry the decisions of one model, and where relevance is lost on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.serialization import MEASURED
from analyzer.data_types.values import Estimate, Finding, flat_row

InputKind = Literal["image", "volume", "series", "tokens", "features"]
"""What an input is to people, which decides how its relevance is drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRelevance:
    """Relevance at the output of one call of one layer, and the books of that call.

    Relevance goes from the model's output to its inputs: what a layer takes in comes from the layers after it. Amounts
    are sums over the tensor, signed by the start value of their sample, means over the samples, divided by the mean
    magnitude of the start value (the value explained). ``relevance_in`` equals ``relevance_out`` and all that was
    absorbed or is unexplained.

    Attributes:
        id: Id of the layer; a further call of a shared layer has ``@2``, ``@3``, … appended.
        kind: Class of the layer.
        order: Rank by execution.
        rule: The rule that was applied, as text.
        share: Sum of |relevance| at its output, over |start value|: 1 where the layer carries all of it and nothing
            cancels, less in a branch, more where contributions of both signs cancel.
        relevance_in: Sum of the relevance that came to its output.
        relevance_out: Sum of the relevance that it passed on to its inputs.
        absorbed_by_bias: What its biases hold.
        absorbed_by_softmax: What the Taylor term of a softmax holds (Achtibat et al. 2024); of either sign.
        absorbed_by_stabiliser: What the stabiliser of denominators holds.
        unexplained: What is missing after all that.
        unexplained_fraction: Largest share of its start value that any sample is missing here.
        n_units: Size of the axis of units (channels, features).
        gini: Gini index of mean |relevance| over the units: 0 for equal shares, near 1 where one unit carries all.
        units_for_90: Fewest units that carry 90 % of the mean |relevance|.
        silent_units: Units that carry no more than ``RelevanceResult.silent_share`` of the layer's |relevance| in any
            sample: candidates for pruning.
        silent_bound: Upper end of the one-sided 95 % Clopper–Pearson bound on the share of samples for which such a
            unit may still carry more.
        unit_share: ``(n_units,)`` share of each unit in the layer's |relevance|, mean over samples; sums to 1.
        unit_largest: ``(n_units,)`` largest such share in any sample.
    """

    id: str
    kind: str
    order: int
    rule: str | None = None
    share: Estimate | None = None
    relevance_in: float | None = None
    relevance_out: float | None = None
    absorbed_by_bias: float | None = None
    absorbed_by_softmax: float | None = None
    absorbed_by_stabiliser: float | None = None
    unexplained: float | None = None
    unexplained_fraction: float | None = None
    n_units: int | None = None
    gini: Estimate | None = None
    units_for_90: int | None = None
    silent_units: int | None = None
    silent_bound: float | None = None
    unit_share: NDArray[np.float64] | None = None
    unit_largest: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureRelevance:
    """One feature of an input: a column, a pixel, a step, a token position.

    Attributes:
        index: Its place in the input without the axis of samples; channels of images and series are summed.
        name: Its name, where the data have one.
        mean: Its relevance over |start value|, mean over samples: above zero it speaks for the target value.
        magnitude: Its share in the input's |relevance|, mean over samples.
    """

    index: tuple[int, ...]
    name: str | None = None
    mean: Estimate
    magnitude: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class InputRelevance:
    """Relevance of one input.

    Attributes:
        name: Name of the input.
        kind: What it is to people.
        shape: Its shape without the axis of samples.
        n_features: Places that relevance is given for: columns, pixels, steps or tokens; channels are summed.
        share: Its share in the |relevance| of all inputs, mean over samples.
        positive: Share of its |relevance| that speaks for the target, mean over samples.
        gini: Gini index of |relevance| over the features of one sample, mean over samples (sparseness of the map).
        features: Those of largest mean magnitude, the largest first.
        mean: ``(...)`` relevance over |start value|, mean over samples, in the shape of a map (channels summed).
        magnitude: ``(...)`` share in the |relevance| of the input, mean over samples, likewise.
    """

    name: str
    kind: InputKind
    shape: tuple[int, ...]
    n_features: int
    share: Estimate
    positive: Estimate | None = None
    gini: Estimate | None = None
    features: tuple[FeatureRelevance, ...] = ()
    mean: NDArray[np.float64] | None = None
    magnitude: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class FaithfulnessScore:
    """One measure of an explanation beside that of a random order of features.

    Attributes:
        value: The measure, mean over samples.
        random: The same for random orders.
        difference: ``value − random``, paired by sample.
    """

    value: Estimate
    random: Estimate
    difference: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class Faithfulness:
    """Whether the model's output follows the features that the explanation names (Samek et al. 2017).

    Features are replaced by a baseline step by step, the most relevant first (MoRF) and the least relevant first
    (LeRF); areas are means of the curves over the fraction replaced.

    Attributes:
        baseline: What features were replaced by.
        n: Samples.
        abpc: Area between the curves, AUC(LeRF) − AUC(MoRF); larger is better.
        comprehensiveness: Unperturbed output − AUC(MoRF); larger is better (DeYoung et al. 2020).
        sufficiency: Unperturbed output − AUC(LeRF); smaller is better.
        fraction: ``(steps,)`` fraction of the features replaced.
        most_first: ``(steps,)`` sum over samples of the output, signed as the unperturbed one, over the sum of the
            magnitudes of the unperturbed ones; the most relevant first.
        least_first: ``(steps,)`` the same, the least relevant first.
        random_first: ``(steps,)`` the same in a random order.
    """

    baseline: str
    n: int
    abpc: FaithfulnessScore
    comprehensiveness: FaithfulnessScore | None = None
    sufficiency: FaithfulnessScore | None = None
    fraction: NDArray[np.float64] | None = None
    most_first: NDArray[np.float64] | None = None
    least_first: NDArray[np.float64] | None = None
    random_first: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class Conservation:
    """The books of the whole model, in the units of `LayerRelevance`; what reaches the inputs and all else sum to 1.

    Attributes:
        start: Mean magnitude of the start value.
        reaches_inputs: What arrives at the inputs.
        absorbed_by_bias: What biases hold.
        absorbed_by_softmax: What Taylor terms of softmaxes hold.
        absorbed_by_stabiliser: What stabilisers hold.
        unexplained: What is missing after all that.
        unexplained_fraction: Largest share that any place leaves unexplained in any sample.
        tolerance: Share from which a place counts as breaking the sum.
        first_break: Id of the place, on the way from the output, where the sum first breaks; None where none does.
    """

    start: float
    reaches_inputs: float | None
    absorbed_by_bias: float | None = None
    absorbed_by_softmax: float | None = None
    absorbed_by_stabiliser: float | None = None
    unexplained: float | None = None
    unexplained_fraction: float | None = None
    tolerance: float = 1e-3
    first_break: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RelevanceExample:
    """One input of one sample with its relevance, kept for pictures.

    Attributes:
        index: Number of the sample in the data.
        input: Name of the input.
        kind: What the input is to people.
        target: What was explained, as text: a class by name where there is one.
        label: The true class or value, as text; None without labels.
        output: The value explained.
        values: The input itself, without the axis of samples; None where it is not numbers.
        relevance: Its relevance in the same shape; one number per token for tokens.
        against: For contrastive methods, what speaks against the target; else None.
        tokens: Words of the tokens, where they are known.
        channels_first: Whether channels are on the first axis.
    """

    index: int
    input: str
    kind: InputKind
    target: str
    label: str | None = None
    output: float | None = None
    values: NDArray[np.float32] | None = None
    relevance: NDArray[np.float32]
    against: NDArray[np.float32] | None = None
    tokens: tuple[str, ...] = ()
    channels_first: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class RelevanceResult:
    """Relevance of the inputs and layers of one model over a stratified sample.

    Attributes:
        findings: What is wrong or remarkable.
        n: Samples explained.
        seed: Seed of the draw of samples, of random orders and of intervals.
        method: Method or preset.
        method_reason: Why it was chosen, in one sentence.
        target: What was explained, as text.
        silent_share: Share of a layer's |relevance| that a unit must exceed in some sample not to count as silent.
        layers: Calls of layers in order of execution.
        inputs: Inputs of the model.
        conservation: The books of the whole model; None for methods that keep none.
        faithfulness: Whether the output follows the features named; None where it was not measured.
        faithfulness_reason: Why it was not.
        examples: Samples kept for pictures.
        skipped: Reason by layer id, for layers whose relevance could not be followed.
        notes: What the reader must know, such as layers without a rule.
        seconds: Time of one explanation of all samples, compiling excluded.
    """

    findings: tuple[Finding, ...] = ()
    n: int
    seed: int
    method: str
    method_reason: str = ""
    target: str = ""
    silent_share: float = 1e-4
    layers: tuple[LayerRelevance, ...] = ()
    inputs: tuple[InputRelevance, ...] = ()
    conservation: Conservation | None = None
    faithfulness: Faithfulness | None = None
    faithfulness_reason: str | None = None
    examples: tuple[RelevanceExample, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float | None = field(default=None, metadata=MEASURED)

    def rows(self) -> list[dict[str, Any]]:
        """One row per layer call, for `AnalysisResults.to_frame`."""
        return [flat_row(layer) for layer in self.layers]
