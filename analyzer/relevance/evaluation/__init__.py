"""How good an explanation is: removal of features, randomization, and methods side by side."""
