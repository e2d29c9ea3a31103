"""Pure functions with the equations: the LIF neuron over time, and reward against message."""
