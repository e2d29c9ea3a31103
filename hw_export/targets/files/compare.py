"""Whether two networks of whole numbers are the same."""

from __future__ import annotations

from dataclasses import fields

import torch

from hw_export.integer.network import IntegerNetwork


def differences(one: IntegerNetwork, other: IntegerNetwork) -> list[str]:
    """Where ``other`` is not ``one``, a line each; empty for the same network, down to every integer."""
    found = [
        f"{name} is {getattr(other, name)}, not {getattr(one, name)}"
        for name in ("bits", "input_scale", "input_shape", "shapes")
        if getattr(one, name) != getattr(other, name)
    ]
    if [type(layer) for layer in one.layers] != [type(layer) for layer in other.layers]:
        return [*found, "the layers are of other kinds"]
    for own, theirs in zip(one.layers, other.layers, strict=True):
        for field in fields(own):
            mine, its = getattr(own, field.name), getattr(theirs, field.name)
            where = f"{field.name} of layer {own.name!r}"
            if not isinstance(mine, torch.Tensor):
                if mine != its:
                    found.append(f"{where} is {its}, not {mine}")
            elif mine.shape != its.shape:
                found.append(f"{where} has shape {tuple(its.shape)}, not {tuple(mine.shape)}")
            elif not torch.equal(mine, its):
                found.append(f"{where}: {int((mine != its).sum())} of {mine.numel()} integers differ")
    return found
