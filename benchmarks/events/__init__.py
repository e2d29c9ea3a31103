"""Parts of :mod:`benchmarks.event_data`: tasks, training runs, and logistic regression on the same recordings."""
