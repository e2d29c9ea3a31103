"""From a network to what a chip runs: adapted to its arithmetic, unrolled, placed on cores."""
