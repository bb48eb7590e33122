"""Attributions other than relevance: by gradients, along paths, from feature maps, by taking parts away."""
