"""What this machine and its libraries are: results of int8, and times, depend on both."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Libraries whose version can change a student.
LIBRARIES = (
    "potstill",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pyarrow",
    "scikit-learn",
    "tokenizers",
    "torch",
    "transformers",
)
# Best first: integer dot products decide how fast and how exact int8 is.
INSTRUCTION_SETS = {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}


@cache
def instruction_set() -> str:
    """The best vector instructions of this CPU that ONNX Runtime's int8 kernels use."""
    flags = set(_cpuinfo("flags").split())
    return next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), platform.machine())


@cache
def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 in units of their own (AMX); without them it is slower."""
    return "amx_bf16" in _cpuinfo("flags").split()


def describe() -> dict[str, str | int]:
    """Processor, instruction set and cores of this machine."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instruction_set": instruction_set(),
        "cores": os.cpu_count() or 1,
    }


def versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries that can change a result."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")
