"""What can be proved about a decision, and estimates that are called estimates."""
