"""What works on this machine: versions, devices, schemes, and a compiler whose packages load.

The compiler is tried for real: a package of one linear is built and run in a child process, where a crash is a finding.
"""

import importlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qcompile.aot.toolchain import check_toolchain, compiler
from qcompile.bytecode import slow_start
from qcompile.environment import current
from qcompile.errors import MachineError
from qcompile.noise import quiet_imports
from qcompile.progress import Progress, stage
from qcompile.schemes import SCHEMES, Scheme
from qcompile.version import __version__

LIBRARIES = ("torch", "torchao", "triton", "diffusers", "transformers", "optimum-quanto", "peft", "safetensors")
"""Their versions are shown, installed or not."""
REMEDY = "use the system's compiler: export CC=/usr/bin/gcc CXX=/usr/bin/g++"
PROBE_SECONDS = 300
"""A probe that takes longer hangs."""

_PROBE = """
import sys, torch
device, path = sys.argv[1:]
layer = torch.nn.Linear(32, 16).to(device).requires_grad_(False)
sample = torch.ones(4, 32, device=device)
torch._inductor.aoti_compile_and_package(torch.export.export(layer, (sample,)), package_path=path)
print("built", flush=True)
torch.testing.assert_close(torch._inductor.aoti_load_package(path)(sample), layer(sample))
"""


@dataclass(frozen=True)
class Device:
    """One processor that pipelines can run on."""

    name: str
    """`cpu` or `cuda:N`, as `--device` takes it."""
    description: str
    capability: tuple[int, int] | None = None
    """Compute capability of a GPU."""


@dataclass(frozen=True)
class Check:
    """One thing that compiling or starting needs, tried."""

    name: str
    good: bool
    found: str
    """What was found, or what is wrong and what to do about it."""
    needed: bool = True
    """False where it works without, more slowly."""


@dataclass(frozen=True)
class SchemeSupport:
    """Whether one scheme runs on one device."""

    scheme: str
    device: str
    why_not: str | None


@dataclass(frozen=True)
class Report:
    """Everything `diagnose` found."""

    versions: dict[str, str | None]
    """By library; None where it is not installed."""
    system: str
    devices: tuple[Device, ...]
    cpu_isa: tuple[str, ...]
    checks: tuple[Check, ...]
    schemes: tuple[SchemeSupport, ...]

    @property
    def good(self) -> bool:
        """Whether everything that compiling needs works."""
        return all(check.good for check in self.checks if check.needed)


def diagnose(progress: Progress) -> Report:
    """Look at this machine. Takes up to a minute, most of it compiling the probe."""
    with stage(progress, "versions and devices"):
        devices = _devices()
    checks = [*_check_compiler(), check_bytecode()]
    if any(check.name == "compiler" and check.good for check in checks):
        for kind in dict.fromkeys(device.name.partition(":")[0] for device in devices):
            with stage(progress, f"build and load a package on {kind}"):
                checks.append(probe(kind))
    return Report(
        versions=_versions(),
        system=f"{platform.system()} {platform.machine()}",
        devices=devices,
        cpu_isa=current("cpu").cpu_isa,
        checks=tuple(checks),
        schemes=tuple(
            SchemeSupport(scheme.name, device.name, _why_not(scheme, device))
            for scheme in SCHEMES.values()
            for device in devices
        ),
    )


def probe(kind: str) -> Check:
    """Build and run a package of one linear on `cpu` or `cuda`, in a child process with an empty compiler cache."""
    name = f"package on {kind}"
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}
        command = [sys.executable, "-c", _PROBE, kind, str(Path(folder, "probe.pt2"))]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=PROBE_SECONDS
            )
        except subprocess.TimeoutExpired:
            return Check(
                name, False, f"building one linear took more than {PROBE_SECONDS} s with {compiler()}; {REMEDY}"
            )
    if child.returncode == 0:
        return Check(name, True, "one linear was built, loaded and gives the right numbers")
    if child.returncode < 0:
        how = f"crashed ({signal.Signals(-child.returncode).name})"
    else:
        how = f"failed: {_reason(child.stderr)}"
    doing = "loading a package" if "built" in child.stdout.split() else "building a package"
    return Check(name, False, f"{doing} made with {compiler()} {how}; {REMEDY}")


def check_bytecode() -> Check:
    """Whether the libraries' modules are there as bytecode."""
    slow = slow_start()
    return Check("bytecode", slow is None, slow or "the libraries are compiled to bytecode", needed=False)


def _reason(stderr: str) -> str:
    """What the compiler said first, else what Python said last."""
    lines = stderr.strip().splitlines() or ["no message"]
    said = lines[lines.index("Output:") + 1 :] if "Output:" in lines else []
    return next((line for line in said if "error" in line or "undefined" in line), lines[-1])


def _check_compiler() -> list[Check]:
    try:
        path = compiler()
    except MachineError as error:
        return [Check("compiler", False, str(error))]
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    checks = [Check("compiler", True, f"{path} ({version[0] if version else 'no version'})")]
    try:
        check_toolchain()
    except MachineError as error:
        return [*checks, Check("C++ runtime", False, str(error))]
    return [*checks, Check("C++ runtime", True, "linked dynamically, as packages need it")]


def _devices() -> tuple[Device, ...]:
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        text = f"{found.name}, compute capability {found.major}.{found.minor}, {found.total_memory / 1e9:.0f} GB"
        gpus.append(Device(f"cuda:{index}", text, (found.major, found.minor)))
    return (Device("cpu", f"{_processor()}, {os.cpu_count()} cores"), *gpus)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return named[0] if named else platform.machine()


def _why_not(scheme: Scheme, device: Device) -> str | None:
    reason = scheme.why_not_machine(device.name.partition(":")[0], device.capability)
    if reason:
        return reason
    for package in scheme.packages:
        try:
            with quiet_imports():
                importlib.import_module(package)
        except ImportError as error:
            return f"{package} can't be imported: {error}"
    return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"qcompile": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found
