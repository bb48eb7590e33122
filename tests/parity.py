"""Audits fixed model files on the backend of this process and prints the numbers as JSON; `test_parity.py` compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path, **options: Any) -> None:
    from analyzer import AnalysisConfig, DataInput, ModelAnalyzer

    data = np.load(folder / "data.npz")
    models = {path.stem: path for path in sorted(folder.glob("*.keras"))}
    # By value, the untrained recurrent net divides by what cancels: its maps sum to 122 times what they explain.
    relevance = {"analyze_relevance": True, "relevance_samples": 24, "relevance_method": "z_plus"}
    quiet = {"save_plots": False, "n_bootstrap": 50, "progress": False, "verbose": False}
    config = AnalysisConfig(**quiet | (options or relevance))
    output = folder / f"out-{sys.argv[2]}"
    results = ModelAnalyzer(models, config=config, output_dir=output).analyze(DataInput(data["x"], data["y"]))
    document, _ = results.to_document(inline_arrays=True)
    for volatile in ("measured", "provenance"):
        document.pop(volatile)
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))
