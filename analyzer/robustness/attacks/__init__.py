"""Attacks written once for all backends: within an ε, or towards the nearest wrong decision."""
