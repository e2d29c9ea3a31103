"""Missing, new and odd fields of every kind of node: one line that names node and field, or the right network."""

from __future__ import annotations

import h5py
import nir
import numpy as np
import pytest
import torch
from nir_fields import DOUBTFUL, NO_LAYER, NODES, ODD, STORED, changed, put, write

from hw_export import from_nir
from hw_export.nir import migrate, read_chain
from hw_export.nir.document import FIELDS, OPTIONAL
from spikelfp.errors import DataError

ENDS = {"in": "Input", "out": "Output"}


def refusal(path, *words, read=from_nir, **options):
    """The text of the error, in one line without the file's own name, after a check that it names ``words``."""
    with pytest.raises(DataError) as refused:
        read(path, **options)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 400
    text = text.replace(str(path), "")
    for word in words:
        assert word in text, (text, words)
    return text


def fields():
    """Every node and field of the files: ``(kind of the file's node, name of the node, field)``."""
    for kind in NODES:
        for name, of in {"n": kind, **(ENDS if kind == "Affine" else {})}.items():
            for field in FIELDS[of]:
                yield kind, name, field


def test_all_kinds_of_nodes_are_tried():
    kinds = {name for name in nir.ir.__all__ if isinstance(getattr(nir, name, None), type)}
    assert kinds - {"NIRNode", "NIRGraph"} == set(NODES) | set(ENDS.values()) == set(FIELDS)


READERS = (from_nir, lambda source: from_nir(source, migrate=True), migrate)


@pytest.mark.parametrize(("kind", "name", "field"), fields())
def test_a_field_that_is_missing_or_odd_is_named(tmp_path, kind, name, field):
    path = tmp_path / "a.nir"
    for what, value in {"missing": None, **STORED}.items():
        if what == "missing" and field in OPTIONAL:
            continue
        write(path, kind, put(f"nodes/{name}/{field}", value))
        for read in (*READERS, read_chain) if what == "missing" else (from_nir,):
            refusal(path, name, field, read=read)
    for value in ODD.values():
        for read in READERS:
            refusal(changed(kind, name, field, value), name, field, read=read)


@pytest.mark.parametrize(("kind", "name", "field"), fields())
def test_other_values_are_read_or_refused_in_a_line(kind, name, field):
    for what, value in DOUBTFUL.items():
        for options in ({}, {"migrate": True}):
            text, net = "", None
            try:
                net = from_nir(changed(kind, name, field, value), **options)
            except DataError as error:
                text = str(error)
            assert "\n" not in text
            if net is None:
                continue
            assert kind not in NO_LAYER
            with torch.no_grad():
                out = net(torch.ones(3, 2, *net.input_shape))
            assert torch.isfinite(out).all(), (what, out)


@pytest.mark.parametrize("kind", sorted(set(NODES) - set(NO_LAYER)))
def test_the_files_are_read_as_they_stand(tmp_path, kind):
    path = tmp_path / "a.nir"
    write(path, kind)
    net = from_nir(path)
    assert list(net(torch.ones(3, 2, *net.input_shape)).shape[2:]) == NODES[kind][2]
    for field in FIELDS[kind].keys() & OPTIONAL:
        write(path, kind, put(f"nodes/n/{field}", None))
        assert torch.equal(from_nir(path)(torch.ones(3, 2, *net.input_shape)), net(torch.ones(3, 2, *net.input_shape)))


@pytest.mark.parametrize("kind", NODES)
def test_new_fields_and_types_are_named_and_the_newer_version_too(tmp_path, kind):
    path = tmp_path / "a.nir"
    write(path, kind, put("nodes/n/v_peak", np.ones(4)))
    assert "this reads" not in refusal(path, "'n'", "'v_peak'")
    for type_ in ("MaxPool2d", "lif", "", "NIRNode", "a\nb"):
        write(path, kind, put("nodes/n/type", type_))
        refusal(path, "'n'", repr(type_))
    for type_ in (None, 3, {}, np.bytes_(b"\xff"), np.array([b"LIF", b"LIF"])):
        write(path, kind, put("nodes/n/type", type_))
        refusal(path, "'n'", "type")
    with h5py.File(path, "r+") as file:
        put("version", "7.1.0-rc1")(file)
        put("nodes/n/type", kind)(file["node"])
        put("nodes/n/v_peak", 1.0)(file["node"])
    refusal(path, "'n'", "'v_peak'", "the file is of NIR '7.1.0-rc1', this reads " + nir.version)


@pytest.mark.parametrize(("where", "label"), [("", "the graph"), ("nodes/n/", "the LIF 'n'")])
@pytest.mark.parametrize(
    "value",
    [0.0, -1e-4, np.nan, np.inf, "1ms", True, 1j, np.array([1e-3, 1e-3]), np.array([1e-3]), np.zeros(0), {}],
    ids=str,
)
def test_dt_of_the_metadata_is_a_number_above_zero(tmp_path, where, label, value):
    path = tmp_path / "a.nir"
    write(path, "LIF", put(f"{where}metadata/dt", value))
    refusal(path, "dt", label)
    with pytest.raises(DataError, match="dt in the metadata"):
        _ = read_chain(path).neurons


@pytest.mark.parametrize("where", ["", "nodes/n/"])
def test_other_metadata_that_are_odd(tmp_path, where):
    path = tmp_path / "a.nir"
    for key, value in {"threshold_op": ">=", "reset": "never", "dialect": "ours"}.items():
        if where and key == "dialect":
            continue
        write(path, "LIF", put(f"{where}metadata/{key}", value))
        refusal(path, key)
    write(path, "LIF", put(f"{where}metadata", "none"))
    refusal(path, "metadata")
    write(path, "LIF", put(f"{where}metadata/author", np.bytes_(b"\xff")))
    refusal(path, "metadata", "UTF-8")
    for value in (np.array([1.0, 2.0]), 3, {}):
        write(path, "LIF", put(f"{where}metadata/reset", value))
        refusal(path, "reset")
    for value in ("someone", 3, np.ones((2, 2)), {}, np.array([b"a", b"b"])):
        write(path, "LIF", put(f"{where}metadata/author", value))
        assert len(from_nir(path)) == 1


@pytest.mark.parametrize(
    ("edges", "word"),
    [
        (None, "no edges"),
        (3, "edges"),
        ("in", "edges"),
        ({}, "edges"),
        (np.array([[1, 2]]), "edges"),
        (np.array([[b"in", b"n", b"out"]]), "edges"),
        (np.array([b"in", b"n"]), "edges"),
        (np.array([[[b"in", b"n"]]]), "edges"),
        (np.array([[b"in", b"\xff"]]), "edges"),
        (np.zeros((0, 2)), "'in' leads nowhere"),
        (np.array([[b"in", b"n"], [b"n", b"out"], [b"in", b"n"]]), "twice"),
        (np.array([[b"in", b"m"], [b"m", b"out"]]), "'m', which does not exist"),
        (np.array([[b"in", b"out"]]), "'n' is not on the way"),
        (np.array([[b"in", b"n"], [b"n", b"n"], [b"n", b"out"]]), "branches after 'n'"),
        (np.array([[b"in", b"n"], [b"n", b"out"], [b"out", b"n"]]), "from 'out' to 'n': none leads"),
        (np.array([[b"in", b"n"], [b"n", b"out"], [b"n", b"in"]]), "from 'n' to 'in': none leads"),
        (np.array([[b"n", b"n"]]), "'in' leads nowhere"),
    ],
)
def test_edges_that_are_malformed_or_lead_astray(tmp_path, edges, word):
    path = tmp_path / "a.nir"
    write(path, "LIF", put("edges", edges))
    refusal(path, word)
    with pytest.raises(DataError):
        read_chain(path)


def test_nodes_that_are_no_group(tmp_path):
    path = tmp_path / "a.nir"
    for where, words in (("nodes", ["nodes"]), ("nodes/n", ["'n'"])):
        for value in (3.0, np.ones(3), "text"):
            write(path, "LIF", put(where, value))
            refusal(path, *words)
    write(path, "LIF", put("nodes", None))
    refusal(path, "no nodes")
    write(path, "LIF", put("nodes", {}))
    refusal(path, "'x' is no group of fields")
    write(path, "LIF", put("more", 1))
    refusal(path, "the graph has a field 'more'")


def nested(path, edit=None):
    """A file whose LIF stands in a graph ``block`` of its own."""
    node, shape, behind = NODES["LIF"]
    ends = {"in": nir.Input(np.array(shape)), "out": nir.Output(np.array(behind))}
    inner = nir.NIRGraph(ends | {"lif": node}, [("in", "lif"), ("lif", "out")])
    nir.write(path, nir.NIRGraph(ends | {"block": inner}, [("in", "block"), ("block", "out")]))
    if edit is not None:
        with h5py.File(path, "r+") as file:
            edit(file["node"])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put("nodes/block/nodes/lif/tau", None), ("'lif'", "tau")),
        (put("nodes/block/edges", None), ("'block'", "edges")),
        (put("nodes/block/nodes", None), ("'block'", "nodes")),
        (put("nodes/block/metadata/dt", 0.0), ("dt", "'block'")),
        (put("nodes/block/edges", np.array([[b"in", b"lif"], [b"lif", b"far"]])), ("'far'", "'block'")),
        (put("nodes/block/edges", np.array([[b"in", b"out"]])), ("'block'", "connects its input to its output")),
        (put("nodes/block/edges", np.array([[b"in", b"lif"], [b"out", b"lif"]])), ("'block'", "none leads")),
        (lambda node: node["nodes/block/nodes"].__setitem__("self", node["nodes/block"]), ("deep",)),
        (lambda node: node["nodes"].__setitem__("soft", h5py.SoftLink("/node")), ("soft", "link")),
        (
            lambda node: node["nodes"].__setitem__("far", h5py.ExternalLink("/etc/hostname", "/")),
            ("link",),
        ),
    ],
)
def test_nested_graphs(tmp_path, edit, words):
    path = tmp_path / "a.nir"
    nested(path)
    assert [name for name, _ in from_nir(path).named_children()] == ["block_lif"]
    nested(path, edit)
    refusal(path, *words)
    if words != ("'far'", "'block'"):  # that edge can only mean one node
        refusal(path, migrate=True)


def test_two_nodes_that_would_bear_one_name():
    node, shape, behind = NODES["LIF"]
    ends = {"in": nir.Input(np.array(shape)), "out": nir.Output(np.array(behind))}
    inner = nir.NIRGraph(ends | {"b": node}, [("in", "b"), ("b", "out")])
    edges = [("in", "a"), ("a", "a.b"), ("a.b", "out")]
    refusal(nir.NIRGraph(ends | {"a": inner, "a.b": node}, edges), "two nodes 'a.b'")


def test_files_that_are_hdf5_but_no_nir(tmp_path):
    path = tmp_path / "a.nir"
    for content in ({}, {"node": 3.0}, {"nodes": 1}, {"data": np.ones(3)}):
        with h5py.File(path, "w") as file:
            for key, value in content.items():
                file[key] = value
        for read in (from_nir, migrate, read_chain):
            refusal(path, "not a readable NIR file", read=read)
    with h5py.File(path, "w") as file:
        file.create_group("node")
    refusal(path, "has no type, no graph")
    for version in (3, np.ones(2), "", "x.y", np.bytes_(b"\xff")):  # of no use, and no harm
        write(path, "LIF")
        with h5py.File(path, "r+") as file:
            put("version", version)(file)
        assert len(from_nir(path)) == 1


@pytest.mark.parametrize("name", ["a b", "[red]", "$x$", "ä", "a\nb", "\x1b[31m", "..", "%s", "{0}", "forward", "dt"])
def test_odd_names_are_told_in_one_line_and_read(tmp_path, name):
    path = tmp_path / "a.nir"
    node, shape, behind = NODES["LIF"]
    ends = {"in": nir.Input(np.array(shape)), "out": nir.Output(np.array(behind))}
    nir.write(path, nir.NIRGraph(ends | {name: node}, [("in", name), (name, "out")]))
    if name != "..":
        assert len(from_nir(path)) == 1
    with h5py.File(path, "r+") as file:
        del file["node/nodes"][name]["tau"]
    refusal(path, repr(name), "tau")


def test_a_graph_in_memory_is_checked_too():
    def graph(**changes):
        node = nir.LIF(*(np.full(4, v) for v in (1e-3, 1.0, 0.0, 0.1, 0.0)))
        vars(node).update(changes)
        ends = {"in": nir.Input(np.array([4])), "out": nir.Output(np.array([4]))}
        return nir.NIRGraph(ends | {"n": node}, [("in", "n"), ("n", "out")], type_check=False)

    assert len(from_nir(graph(tau=[1e-3] * 4, r=torch.ones(4)))) == 1
    for value in (None, "x", [[1], [1, 2]], object(), torch.ones(4, requires_grad=True), np.full(4, None)):
        refusal(graph(tau=value), "'n'", "tau")
    refusal(graph(metadata=3), "metadata", "'n'")
    broken = graph()
    broken.nodes["n"] = "a node"
    refusal(broken, "no node")
    broken = graph()
    broken.edges = [("in", "n"), ("n",)]
    refusal(broken, "edges")
    broken = graph()
    broken.nodes["again"] = broken
    refusal(broken, "no node")
