"""Self-supervised learning: a network trained without labels, whose features a small classifier then reads."""
