"""Data sets of events, one module a source; importing them registers them by name.

========================= ============================ =====================================================
name                      module                       data
========================= ============================ =====================================================
``nmnist``                :mod:`.nmnist`               N-MNIST, whole or in part, unpacked or in archives
``shd``, ``ssc``          :mod:`.heidelberg`           Heidelberg's spoken digits and commands
``braille``               :mod:`.heidelberg`           Braille letters under a fingertip
``hdf5:PATH``             :mod:`.heidelberg`           any file in the layout of these
``fsdd-cochlea``          :mod:`.fsdd_cochlea`         spoken digits through a software cochlea
``dvs-gesture``           :mod:`.dvs_gesture`          DVS128 Gesture
``tonic:NAME``            :mod:`.tonic`                the data set classes of tonic
``folder:PATH``           :mod:`.folder`               recordings of one's own
========================= ============================ =====================================================

:func:`from_arrays` makes recordings of arrays in memory. :mod:`.base` holds the kinds of recordings that sources are
made of, :mod:`.files` finds and reads their files.
"""

from spikelfp.data.events.sources import (  # noqa: F401  (their loaders register themselves)
    dvs_gesture,
    folder,
    fsdd_cochlea,
    heidelberg,
    nmnist,
    tonic,
)
from spikelfp.data.events.sources.base import ArrayRecordings, FileEntry, FileRecordings, Joined, Subset, from_arrays
from spikelfp.data.events.sources.heidelberg import SpikeLists

__all__ = ["ArrayRecordings", "FileEntry", "FileRecordings", "Joined", "SpikeLists", "Subset", "from_arrays"]
