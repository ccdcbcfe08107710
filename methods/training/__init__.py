"""What all methods share: settings, the loop, run folders, checkpoints, image sources, evaluation, comparisons, plots."""
