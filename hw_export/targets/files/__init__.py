"""The files of chips: arrays, facts, HDF5 of netx, memory of tinyODIN."""
