"""Safe reading of files from anywhere: the memory that a file will take is known, and bounded, before it is read.

One rule for all formats: a file of ``n`` bytes may unpack to :func:`most` bytes, which is 256 MiB or 200 times ``n``,
whichever is more. Content that claims more is refused before memory is allocated for it. So is content that lies
outside the file, runs code, or has two meanings (a name given twice). Every fault of a file is raised as one line, a
:class:`~spikelfp.errors.DataError` that names the file.
"""

from spikelfp.untrusted.archives import check_zip, read_entry, unpack_stream
from spikelfp.untrusted.arrays import array_header, array_in, load_arrays
from spikelfp.untrusted.bounds import ALWAYS, RATIO, check_size, most, open_regular, read_regular
from spikelfp.untrusted.hdf5 import check_attributes, check_dataset, check_datasets, check_lengths, member, open_hdf5
from spikelfp.untrusted.old_tensors import load_old_tensors
from spikelfp.untrusted.safe_tensors import load_safe_tensors
from spikelfp.untrusted.tensors import load_tensors
from spikelfp.untrusted.text import read_csv, read_json, read_yaml

__all__ = [
    "ALWAYS",
    "RATIO",
    "array_header",
    "array_in",
    "check_attributes",
    "check_dataset",
    "check_datasets",
    "check_lengths",
    "check_size",
    "check_zip",
    "load_arrays",
    "load_old_tensors",
    "load_safe_tensors",
    "load_tensors",
    "member",
    "most",
    "open_hdf5",
    "open_regular",
    "read_csv",
    "read_entry",
    "read_json",
    "read_regular",
    "read_yaml",
    "unpack_stream",
]
