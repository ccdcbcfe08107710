"""Learning from examples without labels: a task that the data themselves pose trains an encoder."""
