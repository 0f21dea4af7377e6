"""PyTorch: files of weights without PyTorch, live modules with it."""
