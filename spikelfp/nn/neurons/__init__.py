"""Layers of neurons: one kind a file."""
