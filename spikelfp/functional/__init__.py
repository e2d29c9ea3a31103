"""Equations as pure functions: LIF neurons over time, messages, rewards and how they are split."""
