"""Data sets of events, one module each; importing them makes them known by name.

========================= ============================ =====================================================
name                      module                       what
========================= ============================ =====================================================
``nmnist``                :mod:`.nmnist`               N-MNIST, whole or in part, unpacked or in archives
``shd``, ``ssc``          :mod:`.heidelberg`           Heidelberg's spoken digits and commands
``braille``               :mod:`.heidelberg`           Braille letters under a fingertip
``hdf5:PATH``             :mod:`.heidelberg`           any file in the layout of these
``fsdd-cochlea``          :mod:`.fsdd_cochlea`         spoken digits behind a software cochlea
``dvs-gesture``           :mod:`.dvs_gesture`          DVS128 Gesture
``tonic:NAME``            :mod:`.tonic_data`           the data set classes of tonic
``folder:PATH``           :mod:`.folder`               recordings of one's own
========================= ============================ =====================================================

:func:`from_arrays` makes recordings of arrays in memory.
"""

from spikelfp.data.events.sources import (  # noqa: F401  (their loaders register themselves)
    dvs_gesture,
    folder,
    fsdd_cochlea,
    heidelberg,
    nmnist,
    tonic_data,
)
from spikelfp.data.events.sources.arrays import ArrayRecordings, from_arrays
from spikelfp.data.events.sources.compose import Joined, Subset
from spikelfp.data.events.sources.files import Entry, FileRecordings
from spikelfp.data.events.sources.spike_lists import SpikeLists

__all__ = ["ArrayRecordings", "Entry", "FileRecordings", "Joined", "SpikeLists", "Subset", "from_arrays"]
