"""Triton without a GPU: the interpreter in a process of its own, machine code for one, and who is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference import RESETS

from spikelfp import kernels
from spikelfp.errors import UserError
from spikelfp.kernels import choice

triton = pytest.importorskip("triton")
HERE = Path(__file__).parent
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="the kernels of this process are interpreted")


def run(*arguments, **environment):
    """Another Python, and what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, cwd=HERE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@not_interpreted
@pytest.mark.parametrize(("name", "least"), [("test_triton_scan.py", 60), ("test_triton_recurrent.py", 30)])
def test_the_scans_agree_in_the_interpreter(name, least):
    file = str(HERE / name)
    out = run("-m", "pytest", file, "-m", "not gpu", "-p", "no:cacheprovider", TRITON_INTERPRET="1")
    found = re.search(r"(\d+) passed", out)
    assert found is not None, out
    assert int(found[1]) >= least
    assert "skipped" not in out


def test_importing_the_package_imports_neither_triton_nor_the_compiler():
    code = (
        "import sys, spikelfp; print([m for m in ('triton', 'torch._dynamo', 'torch._inductor') if m in sys.modules])"
    )
    assert run("-c", code).strip() == "[]"


@not_interpreted
def test_tensors_on_the_cpu_are_refused_without_the_interpreter(monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, "triton")
    with pytest.raises(UserError, match=r"on cpu.*TRITON_INTERPRET=1"):
        kernels.scan_for(torch.zeros(1))


def test_other_dtypes_are_refused(monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, "triton")
    with pytest.raises(UserError, match="float16"):
        kernels.scan_for(torch.zeros(1).half())


def test_without_triton_installed(monkeypatch):
    monkeypatch.setattr(choice, "triton_installed", lambda: False)
    monkeypatch.setenv(kernels.KERNELS, "triton")
    with pytest.raises(UserError, match="not installed"):
        kernels.scan_for(torch.zeros(1))


def machine_code(name, real, folder, **given):
    """The program ``name`` for an H100 (compute capability 9.0), as the machine's instructions."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from spikelfp.kernels import recurrent_triton, triton_programs, triton_scan

    program = getattr(triton_programs, name, None) or getattr(recurrent_triton, name)
    scalars = {"beta": "fp64", "threshold": "fp64", "epsilon": "fp64", "steps": "i32", "count": "i32", "width": "i32"}
    sizes = (recurrent_triton if name.endswith("_program") else triton_scan).launch_sizes(1000)
    given = given | {key: value for key, value in sizes.items() if key != "num_warps"}
    scalars |= {"scratch": "*i32"} if name.endswith("_program") else {}
    types = {n: "constexpr" if n in given else scalars.get(n, f"*{real}") for n in program.arg_names}
    compiled = triton.compile(
        ASTSource(fn=program, signature=types, constexprs={n: v for n, v in given.items() if n in types}),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": 4, "enable_fp_fusion": False},
    )
    binary = folder / f"{name}.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return subprocess.run([tools / "nvdisasm", binary], capture_output=True, text=True, check=True).stdout


@not_interpreted
@pytest.mark.parametrize("real", ["fp32", "fp64"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("constants", [{"betas": None, "thresholds": None}, {}], ids=["numbers", "vectors"])
def test_machine_code_of_the_forward_scan_has_no_fused_multiply_add(constants, reset, real, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    code = machine_code("forward", real, tmp_path, VARYING=True, KEEP=True, RESET=reset, **constants)
    assert re.search(r"\b[FD]MUL\b", code)
    assert not re.search(r"\b[FD]FMA\b", code)


@not_interpreted
@pytest.mark.parametrize(
    ("name", "reset"),
    [*((name, reset) for name in ("reverse", "reverse_again") for reset in RESETS), ("integrate", "zero")],
)
def test_the_other_scans_compile(name, reset, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    flags = {
        "betas": None,
        "thresholds": None,
        "RESET": reset,
        "INCREMENT": True,
        "CONSTANT": True,
        "VARYING": True,
        "BACKWARDS": True,
    }
    code = machine_code(name, "fp32", tmp_path, reward=None, **flags)
    assert "STG" in code
    assert "LDL" not in code, "registers were spilled"


@not_interpreted
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("synapse", [False, True])
def test_the_recurrent_programs_compile_without_fused_multiply_add(synapse, reset, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    of_synapses = ("synapse", "alphas", "after", "final_synapse", "to_synapse")
    none = {} if synapse else dict.fromkeys(of_synapses)
    code = machine_code("forward_program", "fp32", tmp_path, VARYING=True, RESET=reset, **none)
    assert "STG" in code
    assert not re.search(r"\b[FD]FMA\b", code)
    assert "STG" in machine_code("reverse_program", "fp32", tmp_path, RESET=reset, INCREMENT=True, **none)
