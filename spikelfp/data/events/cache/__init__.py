"""Binned recordings on disk."""
