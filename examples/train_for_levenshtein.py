"""Read rows of digits into strings, with the edit distance to the right string as the only reward.

A row has six places; each shows a handwritten digit for ten steps, or nothing. The target is the string of the digits
shown. Nothing says which digit stood where or which places were empty, and the distance has no derivative.

The network is all spikes: in every place the class with most spikes is the symbol, and silence is the blank.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from spikelfp import data, models, nn, propagate, rewards

PLACES, STEPS, BLANK = 6, 10, 0


def rows(part: data.ArrayDataset, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows ``[T, B, 64]`` of digits, and their strings ``[B, 6]``: digit d is symbol d + 1, −1 ends."""
    chosen = torch.randint(len(part), (count * PLACES,), generator=generator)
    shown = torch.rand(count, PLACES, generator=generator) < 0.6
    images, digits = part.__getitems__(chosen.tolist())
    images = images.view(count, PLACES, 64) * shown.unsqueeze(-1)
    symbols = torch.where(shown, digits.view(count, PLACES) + 1, -1)
    in_front = (~shown).int().argsort(dim=1, stable=True)  # the shown places first, in their order
    return images.transpose(0, 1).repeat_interleave(STEPS, 0), symbols.gather(1, in_front)


def edits(net: nn.Sequential, reward: rewards.Levenshtein, inputs: Tensor, strings: Tensor) -> float:
    """Measure the mean edit distance."""
    with torch.no_grad():
        return reward.distance(net(inputs), strings).float().mean().item()


def main(updates: int = 500, lr: float = 1e-3, batch: int = 64) -> float:
    """Train, print the mean edit distance of test rows before and after, and return the difference."""
    torch.manual_seed(0)
    digits = data.load("digits").with_validation(0.2, seed=0)
    generator = torch.Generator().manual_seed(0)
    validation, test = rows(digits.validation, 200, generator), rows(digits.test, 1000, generator)

    net = models.lif_mlp([64, 256, 11])
    reward = rewards.Levenshtein(window=STEPS, blank=BLANK)
    before = edits(net, reward, *test)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=updates)

    best, least = copy.deepcopy(net), edits(net, reward, *validation)
    for update in range(1, updates + 1):
        inputs, strings = rows(digits.train, batch, generator)
        spikes = net(inputs)
        optimizer.zero_grad()
        propagate(spikes, reward(spikes, strings) / batch)
        optimizer.step()
        schedule.step()
        if update % 50 == 0:
            reached = edits(net, reward, *validation)
            if reached < least:
                best, least = copy.deepcopy(net), reached
    after = edits(best, reward, *test)

    length = (test[1] >= 0).sum(1).float().mean().item()
    print(f"strings of {length:.1f} digits on average: {before:.2f} edits before training, {after:.2f} after")
    for b in range(3):
        told = reward.decode(best(test[0][:, b : b + 1]))[0]
        right = [s for s in test[1][b].tolist() if s >= 0]
        print(f"  {''.join(str(s - 1) for s in right):6s} read as {''.join(str(s - 1) for s in told)}")
    return before - after


if __name__ == "__main__":
    main()
