"""Make the broken artifacts of this folder, and the table in its README.md, anew.

    python serialization/hostile/make.py [OUT]

Each is made from one small whole artifact by one change. Where the change is one that damage would not make, the
digests are right: such an artifact has an author.
"""

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from damage import (
    COMPONENT,
    PACKAGE_FILE,
    WEIGHT_FILE,
    Damage,
    Data,
    cast_bias,
    cut,
    flip,
    link,
    pipeline,
    put,
    recorded,
    remove,
    rename,
    signed,
    unsign,
    weights,
    with_package,
    write,
)
from diffusers import ReduxImageEncoder
from leads import LEADS
from own_weights import dtype_of_a_function, half_of_the_groups, one_scale, short_tiles
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from qcompile.artifact.manifest import (
    MANIFEST,
    ComponentRecord,
    Manifest,
    ModelRecord,
    RecipeRecord,
    ShapeRecord,
    Verification,
)
from qcompile.artifact.tensors import WEIGHTS, write_tensors
from qcompile.artifact.write import write_manifest
from qcompile.environment import Environment

HERE = Path(__file__).parent
BEGIN, END = "<!-- begin: made by make.py -->\n", "<!-- end -->\n"
RECIPE_TEXT = """\
name: whole
version: 1
model: {id: redux-tiny}
steps:
- quantize: {component: transformer, scheme: int8_weight_only, layers: {include: ["**"]}}
"""


@dataclass(frozen=True)
class Case:
    """One broken artifact."""

    outcome: str
    """Fault of the `ArtifactError`, or field of the `EnvironmentMismatch`, that loading it raises."""
    idea: str
    damage: Damage


def write_whole(folder: Path) -> None:
    """Write the artifact that all others are made from: two linears, int8 weights, no packages."""
    module = ReduxImageEncoder(redux_dim=16, txt_in_features=16).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
    quantize_(module, Int8WeightOnlyConfig(set_inductor_config=False))
    module.save_config(folder / COMPONENT)
    write_tensors(module, folder / COMPONENT)
    (folder / "recipe.yaml").write_text(RECIPE_TEXT, encoding="utf-8")
    write_manifest(folder, _manifest())


def make(out: Path) -> None:
    """Write every broken artifact to `out`, and the table to its README.md where there is one."""
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        write_whole(whole)
        for name, case in CASES.items():
            shutil.rmtree(out / name, ignore_errors=True)
            shutil.copytree(whole, out / name)
            case.damage(out / name)
    readme = out / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        readme.write_text(text[: text.index(BEGIN)] + BEGIN + table() + text[text.index(END) :], encoding="utf-8")


def table() -> str:
    """The table of README.md."""
    rows = [f"| `{name}` | {case.idea} | `{case.outcome}` |\n" for name, case in CASES.items()]
    return "".join(["| folder | idea | outcome |\n", "|---|---|---|\n", *rows])


def _manifest() -> Manifest:
    return Manifest(
        qcompile="0.1.0",
        recipe=RecipeRecord(name="whole", version=1, sha256=hashlib.sha256(RECIPE_TEXT.encode()).hexdigest()),
        model=ModelRecord(
            kind="model", class_name="ReduxImageEncoder", id="redux-tiny", revision=None, dtype="bfloat16"
        ),
        environment=Environment(
            python="3.11.9",
            torch="2.13.0",
            torchao="0.18.0",
            diffusers="0.42.1",
            triton=None,
            cuda=None,
            system="Linux",
            machine="x86_64",
            device="cpu",
            gpu=None,
            capability=None,
            cpu_isa=("avx2",),
        ),
        denoiser=COMPONENT,
        call={},
        shapes={"inputs0": ShapeRecord(height=None, width=None, batch=1, frames=None)},
        components={
            COMPONENT: ComponentRecord(
                class_name="ReduxImageEncoder", stored="qcompile", bytes_before=3200, bytes_after=1984
            )
        },
        changes=(),
        calls={},
        packages=(),
        verification=Verification(quantized_relative_error={}, compiled_relative_error={}, image_psnr_db=None, seed=0),
        files={},
    )


_INDEX: Data = {"_class_name": "FluxPipeline", COMPONENT: ["diffusers", "ReduxImageEncoder"]}
_HUGE = b'{"a":{"dtype":"I8","shape":[1152921504606846976],"data_offsets":[0,1152921504606846976]}}'
_SECRET = '"""Code that no reader runs."""\n\nimport pathlib\n\npathlib.Path("executed").touch()\n'

CASES = {
    "no-manifest": Case("no_manifest", "qcompile.json is missing", remove(MANIFEST)),
    "manifest-not-json": Case("bad_manifest", "qcompile.json is cut off", cut(MANIFEST, 700)),
    "manifest-a-list": Case("bad_manifest", "qcompile.json is a list", write(MANIFEST, "[]\n")),
    "manifest-deep": Case(
        "bad_manifest", "100,000 brackets, to overflow a parser's stack", write(MANIFEST, "[" * 100_000)
    ),
    "manifest-wrong-type": Case("bad_manifest", "a seed that is text", signed(put("verification", "seed", to="0"))),
    "manifest-unknown-key": Case(
        "bad_manifest", "a key no version 1 has", signed(put("environment", "os", to="Linux"))
    ),
    "manifest-no-version": Case("bad_manifest", "no format version", signed(lambda data: data.pop("format_version"))),
    "manifest-no-shapes": Case("bad_manifest", "no shape at all", signed(put("shapes", to={}))),
    "manifest-dangling": Case("bad_manifest", "a denoiser that is no component", signed(put("denoiser", to="unet"))),
    "manifest-dtype": Case(
        "bad_manifest", "a dtype that is a function of torch: `load`", signed(put("model", "dtype", to="load"))
    ),
    "manifest-nan": Case("bad_manifest", "a number that is none", signed(put("call", "scale", to=float("nan")))),
    "newer-format": Case("newer_format", "format version 2", signed(put("format_version", to=2))),
    "manifest-flipped": Case("changed_manifest", "one bit of the manifest flipped", flip(MANIFEST, 200)),
    "manifest-unsigned": Case("changed_manifest", "the manifest's own digest is gone", unsign),
    "path-parent": Case("escaping_path", "a file `../secret`", signed(rename("files", "recipe.yaml", "../secret"))),
    "path-absolute": Case(
        "escaping_path", "a file `/etc/passwd`", signed(rename("files", "recipe.yaml", "/etc/passwd"))
    ),
    "path-backslash": Case(
        "escaping_path", "a file `..\\secret`", signed(rename("files", "recipe.yaml", "..\\secret"))
    ),
    "path-package": Case(
        "escaping_path", "a package `../evil.pt2`", with_package(put("packages", 0, "file", to="../evil.pt2"))
    ),
    "path-component": Case(
        "escaping_path",
        "a component `../secret`, whose folder would be read",
        signed(rename("components", COMPONENT, "../secret"), put("denoiser", to="../secret")),
    ),
    "path-index": Case(
        "escaping_path",
        "a component `../secret` in model_index.json",
        pipeline(_INDEX | {"../secret": _INDEX[COMPONENT]}),
    ),
    "link-file": Case("link", "recipe.yaml is a link", link("recipe.yaml", "../no-manifest/recipe.yaml")),
    "link-folder": Case("link", "a link to a folder", link("vae", COMPONENT)),
    "link-manifest": Case("link", "qcompile.json is a link", link(MANIFEST, "../manifest-a-list/qcompile.json")),
    "missing-weights": Case("missing_file", "the weights are gone", remove(WEIGHT_FILE)),
    "missing-recipe": Case("missing_file", "no recipe, and none recorded", recorded(remove("recipe.yaml"))),
    "extra-file": Case(
        "extra_file", "a file more, which diffusers would read", write(f"{COMPONENT}/{WEIGHTS}.fp16.safetensors", "")
    ),
    "extra-package": Case(
        "extra_file",
        "a package without a digest",
        with_package(lambda data: data["files"].pop(PACKAGE_FILE)),
    ),
    "flipped-weights": Case("changed_file", "one bit of the weights flipped", flip(WEIGHT_FILE, -1)),
    "flipped-config": Case("changed_file", "one bit of a configuration flipped", flip(f"{COMPONENT}/config.json", 30)),
    "cut-weights": Case("changed_file", "the last byte of the weights missing", cut(WEIGHT_FILE, -1)),
    "foreign-library": Case("foreign_class", "a component `os.system`", pipeline(_INDEX | {"vae": ["os", "system"]})),
    "foreign-pipeline": Case(
        "foreign_class",
        "a pipeline class from a file of the artifact",
        pipeline(_INDEX | {"_class_name": ["evil", "FluxPipeline"]}, write("evil.py", _SECRET)),
    ),
    "foreign-module": Case(
        "foreign_class",
        "a component class from a file of the artifact",
        pipeline(_INDEX | {"vae": ["evil", "AutoencoderKL"]}, write("vae/evil.py", _SECRET)),
    ),
    "foreign-component": Case(
        "foreign_class",
        "another class than the manifest's",
        pipeline(_INDEX | {COMPONENT: ["diffusers", "FluxTransformer2DModel"]}),
    ),
    **{name: Case(*case) for name, case in LEADS.items()},
    "tensor-missing": Case(
        "bad_tensors", "a part of a tensor missing", weights(lambda held, _: held.pop("redux_up._weight_scale"))
    ),
    "tensor-not-described": Case(
        "bad_tensors", "a tensor that nothing describes", weights(lambda _, data: data.pop("redux_up.bias"))
    ),
    "tensor-extra": Case(
        "bad_tensors",
        "a tensor the model does not have",
        weights(
            lambda held, data: (held.update({"x.bias": torch.zeros(1)}), data.update({"x.bias": {"_type": "Tensor"}}))
        ),
    ),
    "tensor-shape": Case(
        "bad_tensors",
        "a bias one element short",
        weights(lambda held, _: held.update({"redux_up.bias": held["redux_up.bias"][1:].clone()})),
    ),
    "tensor-dtype": Case("bad_tensors", "a float32 bias in a bfloat16 model", weights(cast_bias)),
    "tensor-scales": Case(
        "bad_tensors",
        "one scale for all rows, which would be broadcast",
        weights(lambda held, _: held.update({"redux_up._weight_scale": held["redux_up._weight_scale"][:1].clone()})),
    ),
    "tensor-class": Case(
        "bad_tensors",
        "a tensor class that is not on the list",
        weights(lambda _, data: data["redux_up.weight"].update(_type="Evil")),
    ),
    "tensor-dtype-name": Case(
        "bad_tensors",
        "a dtype that is a function of torch: `load`",
        weights(
            lambda _, data: data["redux_up.weight"]["_data"].update(dtype={"_type": "torch.dtype", "_data": "load"})
        ),
    ),
    "tensor-no-json": Case(
        "bad_tensors", "a description that is no JSON", weights(lambda _, data: data.update({"redux_up.weight": "{"}))
    ),
    "tensor-tiles": Case("bad_tensors", "4-bit tiles, fewer than the shape has", weights(short_tiles())),
    "own-scales": Case("bad_tensors", "a class of ours with one scale for all rows", weights(one_scale())),
    "own-groups": Case("bad_tensors", "a class of ours with half of its groups", weights(half_of_the_groups())),
    "own-dtype": Case("bad_tensors", "a class of ours with the dtype `load`", weights(dtype_of_a_function())),
    "header-cut": Case("bad_tensors", "a safetensors header cut off", recorded(cut(WEIGHT_FILE, 40))),
    "header-huge": Case(
        "bad_tensors",
        "a safetensors header of 2**62 bytes",
        recorded(write(WEIGHT_FILE, (2**62).to_bytes(8, "little") + b"{}")),
    ),
    "tensor-huge": Case(
        "bad_tensors",
        "a tensor of 2**60 bytes in a small file",
        recorded(write(WEIGHT_FILE, len(_HUGE).to_bytes(8, "little") + _HUGE)),
    ),
    "other-torch": Case("torch", "packages from another torch", with_package(put("environment", "torch", to="1.0.0"))),
    "other-cpu": Case(
        "cpu_isa", "packages for a CPU with more", with_package(put("environment", "cpu_isa", to=["avx2", "avx9000"]))
    ),
    "other-gpu": Case(
        "capability",
        "packages for a GPU",
        with_package(
            put("environment", "device", to="cuda"),
            put("environment", "gpu", to="none of this name"),
            put("environment", "capability", to="99.0"),
        ),
    ),
}


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
