"""Signs that attacks fail for reasons of their own, so that what they could not find proves nothing."""
