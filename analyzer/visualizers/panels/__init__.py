"""Panels: small functions ``panel(ax, series, pen)`` that draw one picture of one kind of result on any axes."""
