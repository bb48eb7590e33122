"""Pure functions on arrays: NumPy, SciPy and scikit-learn only."""
