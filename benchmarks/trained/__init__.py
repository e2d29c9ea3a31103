"""Networks that benchmarks train: their runs in folders, and tables of them."""
