"""Foreign graphs that no network here can stand for: one line that names node, parameter and value."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from hw_export import from_nir
from spikelfp.errors import DataError, UnknownNameError, UserError


def full(*values, n=3):
    return [np.full(n, float(v)) for v in values]


def lif(n=3, **changes):
    parameters = {"tau": 1e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.1, "v_reset": 0.0} | changes
    return nir.LIF(**{key: np.broadcast_to(np.asarray(v, float), n).copy() for key, v in parameters.items()})


def graph(nodes, edges, size=3, out=None):
    ends = {"in": nir.Input(np.array([size])), "out": nir.Output(np.array([out or size]))}
    return nir.NIRGraph(ends | nodes, edges, type_check=False)


def of(node, size=3, out=None):
    return graph({"n": node}, [("in", "n"), ("n", "out")], size, out)


LINEAR = nir.Linear(np.ones((3, 3)))


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (lif(tau=[1e-3, 9e-5, 1e-3]), "'n' have tau = 9e-05, too short for a step of dt = 0.0001"),
        (lif(tau=[1e-3, 1e-3, 5e3]), "time constants up to 5000, 50000000 steps of 0.0001"),
        (nir.CubaLIF(np.array([1e-4, 2e-4, 2e-4]), *full(1e-3, 1, 0, 0.1)), "some of the neurons 'n' have tau_syn"),
        (lif(tau=0.0), "tau of the LIF 'n' is 0, expected above 0"),
        (lif(tau=9e-5), "'n' have tau = 9e-05, too short for a step of dt = 0.0001"),
        (lif(tau=1e-4), "'n' have tau = 0.0001, too short"),
        (lif(r=1e-50, v_threshold=1.0), "current of 'n' is at most 1e-51, which float32 does not hold"),
        (lif(v_threshold=1e-310), "'n' are too far apart: their quotients overflow"),
        (lif(v_threshold=1e308, v_reset=-1e308), "'n' have a v_threshold too far above v_reset"),
        (nir.Linear(np.full((3, 3), 1e39)), "weight of 'n' reaches 1e+39, which float32 does not hold"),
        (nir.Linear(np.full((3, 3), 1e-39)), "weight of 'n' is at most 1e-39, which float32 does not hold"),
        (lif(tau=5.0), "time constants up to 5, 50000 steps of 0.0001"),
        (lif(r=[1, np.nan, 1]), "r of the LIF 'n' has values that are not finite"),
        (lif(v_threshold=0.0), "v_threshold = 0 and v_reset = 0: a threshold must lie above the reset"),
        (lif(v_reset=[0, 0.2, 0]), "v_threshold = 0.1 and v_reset = 0.2"),
        (nir.CubaLIF(*full(2e-4, 1e-3, 1, 0.05, 0.1)), "'n' rest at another membrane (v_leak from 0.05 to 0.05)"),
        (
            nir.Delay(np.array([0, 1.5e-4, 0])),
            "the Delay 'n' delays by 0.00015, no whole number of steps of dt = 0.0001",
        ),
        (nir.Delay(np.full(3, -1e-4)), "the Delay 'n' delays by -0.0001, expected 0 or more"),
        (nir.Delay(np.full(3, 10.0)), "the Delay 'n' delays by 10, more than 65535 steps of dt = 0.0001"),
        (nir.Conv1d(3, np.ones((1, 1, 1)), 1, 0, 1, 1, np.zeros(1)), "'n' is a Conv1d"),
        (nir.Linear(np.full((3, 3), np.inf)), "weight of the Linear 'n' has values that are not finite"),
        (nir.Linear(np.ones((2, 3, 3))), "weight of the Linear 'n' has shape [2, 3, 3], expected 2 axes"),
        (nir.Affine(np.ones((3, 3)), np.ones(2)), "the bias of 'n' has shape [2], expected [3]"),
        (nir.Linear(np.ones((3, 4))), "the Linear 'n' does not take an input of [3]"),
        (nir.Linear(np.ones((4, 3))), "states an output of [3], [4] arrives there"),
        (lif(n=2), "the LIF 'n' have shape [2], an input of [3] arrives there"),
        (nir.Flatten({"input": np.array([3])}, 1, -1), "Flatten 'n' joins axes 1 to -1 of an input of [3]"),
        (nir.SumPool2d(*(np.array([2, 2]) for _ in range(3))), "the SumPool2d 'n' does not take an input of [3]"),
        (nir.Scale(np.ones(4)), "the Scale 'n' have shape [4]"),
    ],
)
def test_nodes(node, text):
    with pytest.raises(DataError) as refused:
        from_nir(of(node))
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("nodes", "edges", "text"),
    [
        ({"a": lif(), "b": lif()}, [("in", "a"), ("in", "b"), ("a", "out"), ("b", "out")], "branches after 'in'"),
        ({"a": lif(), "b": lif()}, [("in", "a"), ("a", "out")], "'b' is not on the way"),
        ({"a": lif()}, [("in", "a")], "'a' leads nowhere, so the output 'out' is not reached"),
        ({"a": lif()}, [("in", "a"), ("in", "a"), ("a", "out")], "edge from 'in' to 'a' twice"),
        ({"a": lif()}, [("in", "a"), ("a", "b"), ("b", "out")], "names 'b', which does not exist"),
        ({"a": lif()}, [("in", "a"), ("a", "a"), ("a", "out")], "branches after 'a'"),
        (
            {"a": lif(), "b": LINEAR, "c": lif()},
            [("in", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "out")],
            "branches after 'c'",
        ),
        ({"a": lif(), "b": LINEAR}, [("in", "a"), ("a", "b"), ("b", "a")], "'out' is not reached"),
        ({"a": nir.Output(np.array([3]))}, [("in", "out"), ("in", "a")], "1 inputs and 2 outputs"),
    ],
)
def test_graphs(nodes, edges, text):
    with pytest.raises(DataError) as refused:
        from_nir(graph(nodes, edges))
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dt": 0.0}, "dt must be a finite number above 0, got 0"),
        *(
            ({"dt": dt}, "dt must be a finite number above 0, got")
            for dt in (float("inf"), float("nan"), -1e-4, "1ms", True, [1e-4], np.zeros(2), 1j)
        ),
        ({"reset": "substract"}, "unknown reset 'substract': did you mean 'subtract'"),
        ({"scheme": "rk4"}, "unknown scheme 'rk4'"),
        ({"spikes": "many"}, "unknown spikes 'many'"),
        ({"integrators": "unit"}, "unknown integrators 'unit'"),
        ({"spikes": "multiple"}, "'n' reset by 'zero': pass reset='immediate'"),
        ({"spikes": "multiple", "reset": "subtract"}, "'n' reset by 'subtract': pass reset='immediate'"),
    ],
)
def test_arguments(options, text):
    with pytest.raises(UserError) as refused:
        from_nir(of(lif()), **options)
    assert text in str(refused.value)
    if "unknown" in text:
        assert isinstance(refused.value, UnknownNameError)


def test_arguments_that_contradict_the_file():
    made = of(lif())
    made.metadata = {"dt": 2e-4, "reset": "zero"}
    assert from_nir(made, dt=2e-4, reset="zero").dt == 2e-4
    with pytest.raises(UserError, match=r"dt=0.0001 was asked for, but the file states dt = 0.0002"):
        from_nir(made, dt=1e-4)
    with pytest.raises(UserError, match="reset='subtract' was asked for, but the file states reset = 'zero'"):
        from_nir(made, reset="subtract")
    made.metadata = {"reset": "gradual"}
    with pytest.raises(DataError, match="'n' say reset = 'gradual', which is not known here: pass reset"):
        from_nir(made)
    assert from_nir(made, reset="immediate")[0].reset == "immediate"


def test_subtraction_contradicts_a_reset_to_another_membrane():
    with pytest.raises(DataError, match=r"'n' reset to v_reset from -0.2 to -0.2, which reset='subtract' contradicts"):
        from_nir(of(lif(v_reset=-0.2)), reset="subtract")


def test_several_spikes_are_for_plain_neurons():
    recurrent = graph({"a": lif(), "b": LINEAR}, [("in", "a"), ("a", "b"), ("b", "a"), ("a", "out")])
    with pytest.raises(UserError, match="without feedback, 'a' are others"):
        from_nir(recurrent, reset="immediate", spikes="multiple")


def test_a_nested_graph_with_two_inputs():
    inner = graph({"a": lif(), "in2": nir.Input(np.array([3]))}, [("in", "a"), ("in2", "a"), ("a", "out")])
    with pytest.raises(DataError, match="the subgraph 'block' has not one input and one output"):
        from_nir(graph({"block": inner}, [("in", "block"), ("block", "out")]))


def test_files(tmp_path):
    with pytest.raises(DataError, match="there is no NIR file"):
        from_nir(tmp_path / "missing.nir")
    (tmp_path / "text.nir").write_text("not HDF5")
    with pytest.raises(DataError, match="expected HDF5"):
        from_nir(tmp_path / "text.nir")
    nir.write(tmp_path / "node.nir", lif())
    with pytest.raises(DataError, match="it holds a LIF, no graph"):
        from_nir(tmp_path / "node.nir")
