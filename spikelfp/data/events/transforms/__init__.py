"""Transforms of events, by name."""
