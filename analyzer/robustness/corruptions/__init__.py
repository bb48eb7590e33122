"""Corruptions: what happens to inputs without anybody's intent, in five severities, seeded, per kind of input."""
