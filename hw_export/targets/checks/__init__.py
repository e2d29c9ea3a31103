"""What a chip cannot hold, and what it does differently."""
