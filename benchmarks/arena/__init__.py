"""All methods on all data sets, tuned alike: ``python -m benchmarks.arena``."""
