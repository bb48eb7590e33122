"""Working through many models: rules that decide over a set of results."""
