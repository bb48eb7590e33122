"""Calibration of predicted probabilities: distances, proper scores, tests, and what they add up to."""
