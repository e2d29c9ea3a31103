"""Networks as files of the Neuromorphic Intermediate Representation (NIR, Pedersen et al. 2024), written and read."""

from hw_export.nir.chain import Chain, Neuron, as_chain, read_chain
from hw_export.nir.dialects import DIALECTS
from hw_export.nir.read import ImportedNetwork, from_nir, migrate
from hw_export.nir.write import to_nir

__all__ = [
    "DIALECTS", "Chain", "ImportedNetwork", "Neuron", "as_chain", "from_nir", "migrate", "read_chain", "to_nir",
]  # fmt: skip
