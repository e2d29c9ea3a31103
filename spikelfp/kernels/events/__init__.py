"""Products of sparse inputs, made event by event: zeros cost nothing.

Dense inputs are searched for events; sparse ones, COO tensors, are lists of events already.
``SPIKELFP_EVENTS`` chooses: ``auto`` (by the measured density of each input, the default), ``always`` (wherever a
kernel exists) or ``never``. The results are those of the dense products up to the order of summation, except that
an input of 0 times an infinite weight counts as 0.
"""
