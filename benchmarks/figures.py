"""Each figure against the `savefig` of its own panels: building it should cost little beside rendering it."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from analyzer import AnalysisConfig, AnalysisResults, DataInput, ModelAnalyzer
from analyzer.visualizers.registry import visualizer_classes
from analyzer.visualizers.style import model_colors
from benchmarks.common import Ratio

LIMIT = 1.5


def measure(repetitions: int = 20) -> list[Ratio]:
    """One ratio per figure, over three small models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = _results(folder)
        return [_measure(name, results, folder, repetitions) for name in visualizer_classes()]


def _measure(name: str, results: AnalysisResults, folder: Path, repetitions: int) -> Ratio:
    visualizer = visualizer_classes()[name](results, AnalysisConfig(), folder, model_colors(results.model_names))
    ratios = []
    savefig = Figure.savefig
    for repetition in range(repetitions + 1):
        saving = 0.0

        def timed(figure: Figure, *args: object, **kwargs: object) -> None:
            nonlocal saving
            started = time.perf_counter()
            savefig(figure, *args, **kwargs)
            saving += time.perf_counter() - started

        Figure.savefig = timed
        try:
            started = time.perf_counter()
            visualizer.create_visualizations()
            total = time.perf_counter() - started
        finally:
            Figure.savefig = savefig
        if repetition:
            ratios.append(total / saving)
    return Ratio(f"figure / its savefig, {name}", statistics.median(ratios), LIMIT, repetitions)


def _results(folder: Path) -> AnalysisResults:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 32)).astype("float32"), rng.integers(0, 5, 1000)
    models, histories = {}, {}
    for width in (16, 32, 64):
        model = keras.Sequential(
            [
                keras.Input((32,)),
                *(keras.layers.Dense(width, activation="relu") for _ in range(4)),
                keras.layers.Dense(5, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        histories[f"width {width}"] = model.fit(x, y, validation_split=0.2, epochs=5, verbose=0)
        models[f"width {width}"] = model
    config = AnalysisConfig(save_plots=False, n_bootstrap=100, verbose=False, progress=False)
    return ModelAnalyzer(models, histories, config, folder).analyze(DataInput(x, y))


if __name__ == "__main__":
    for result in measure():
        print(result)
