"""Rounding to the nearest value of a grid, and by chance."""

import torch

from spikelfp.data.loader import generator
from spikelfp.functional.grid import Grid, Represented, Rounded, round_by_chance

GRID = Grid.symmetric(torch.tensor(0.3), 4)


def nearest(value: float) -> float:
    return 0.3 * max(-7, min(7, round(value / 0.3)))


def test_rounding_to_nearest_and_its_backward_pass():
    values = torch.randn(200, requires_grad=True)
    rounded = Rounded.apply(values, GRID)
    torch.testing.assert_close(rounded, torch.tensor([nearest(v) for v in values.tolist()]))
    message = torch.randn(200)
    rounded.backward(message)
    assert torch.equal(values.grad, message)


def test_what_a_grid_value_stands_for():
    values = torch.tensor([-0.6, 0.0, 0.3], requires_grad=True)
    seen = Represented.apply(values, GRID)
    torch.testing.assert_close(seen, torch.tensor([-0.6, 0.075, 0.3]))
    assert torch.equal(Rounded.apply(seen, GRID), Rounded.apply(values, GRID))
    seen.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert values.grad.tolist() == [1.0, 2.0, 3.0]


def test_chance_is_unbiased_and_stays_on_the_grid():
    wanted = torch.tensor([-2.05, -0.31, -0.1, 0.02, 0.15, 1.0, 2.09])
    drawn = round_by_chance(wanted.repeat(40_000, 1), GRID, generator("test"))
    integers = drawn / 0.3
    torch.testing.assert_close(integers, integers.round(), rtol=0, atol=1e-5)
    assert (drawn - wanted).abs().max() < 0.3
    # a mean of 40 000 draws has a deviation of at most 0.3 / 2 / 200
    torch.testing.assert_close(drawn.mean(0), wanted, rtol=0, atol=5 * 0.3 / 400)


def test_values_of_the_grid_stay_and_others_end_at_its_border():
    for scale in (0.3, 1e-3, 0.7):
        grid = Grid.symmetric(torch.tensor(scale), 16)
        values = grid.to_real(torch.arange(grid.low, grid.high + 1.0))
        assert torch.equal(round_by_chance(values, grid, generator(1)), values)
    far = torch.tensor([-50.0, 50.0])
    torch.testing.assert_close(round_by_chance(far, GRID, generator(1)), torch.tensor([-2.1, 2.1]))


def test_the_same_key_draws_the_same():
    values = torch.randn(100)
    a, b, c = (round_by_chance(values, GRID, generator("rounding", 0, step)) for step in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
