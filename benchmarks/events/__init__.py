"""What :mod:`benchmarks.event_data` trains: its tasks, its runs, and logistic regression on the same recordings."""
