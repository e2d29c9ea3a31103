"""Data sets of events, one module each."""
