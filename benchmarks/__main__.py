"""Run all benchmarks one after the other: ``python -m benchmarks [--quick]``, or ``make bench``.

``benchmarks.gpu`` runs only where there is a CUDA device.
"""

from __future__ import annotations

import sys

import torch

from benchmarks import (
    curves,
    epochs,
    event_loading,
    forward_only_speed,
    gpu,
    integer,
    margin,
    quantization,
    recurrent,
    rules,
    sparse_inputs,
    step,
    updates,
)
from benchmarks.record import arguments


def main(given: list[str] | None = None) -> None:
    """Run all benchmarks."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", help="folder that holds mnist/ (default: $SPIKELFP_DATA)")
    options = parser.parse_args(given)
    common = (["--quick"] if options.quick else []) + (["--out", str(options.out)] if options.out else [])
    step.main(common)
    recurrent.main(common)
    rules.main(common)
    forward_only_speed.main(common)
    with_data = common + (["--data-dir", options.data_dir] if options.data_dir else [])
    epochs.main(with_data)
    margin.main(with_data)
    curves.main(common)
    integer.main(common)
    quantization.main(with_data)
    updates.main(with_data)
    sparse_inputs.main(common)
    event_loading.main(with_data)
    if torch.cuda.is_available():
        gpu.main(common)
    else:
        print("No CUDA device: benchmarks.gpu is left out.", file=sys.stderr)


if __name__ == "__main__":
    main()
