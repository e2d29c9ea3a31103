"""Runs and settings of the benchmark of methods without a backward pass between layers."""
