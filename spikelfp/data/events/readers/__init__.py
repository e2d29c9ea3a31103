"""Readers of the files that sensors and data sets write, one module a format."""
