"""`serialization/`: schemas, golden artifacts, broken artifacts and FORMAT.md hold what they say."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest
import torch
import torchao
import yaml
from conftest import RECIPES, ROOT
from PIL import Image

import qcompile
from qcompile import recipe as recipes
from qcompile.artifact import manifest as manifests
from qcompile.artifact.manifest import FAULTS, MANIFEST, Manifest
from qcompile.artifact.read import read_artifact
from qcompile.bench import record as measured
from qcompile.environment import COMPARED, COMPARED_ON_GPU
from qcompile.images import psnr_db

SERIALIZATION = ROOT / "serialization"
GOLDEN = SERIALIZATION / "golden"
HOSTILE = SERIALIZATION / "hostile"
MIN_PSNR_DB = 35.0
"""As golden/README.md says: processors differ in how they round bfloat16."""
# make.py's bytecode lies beside them after the first run.
GOLDENS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir() and path.name != "__pycache__")
PIPELINES = [name for name in GOLDENS if name.startswith("pipeline")]
SCHEMAS = {"recipe": recipes.schema, "manifest": manifests.schema, "record": measured.schema}
NO_FOLDER = {"no_folder", "unreadable"}
"""Faults of reading that no folder can show."""
WRITING = {"exists", "not_an_artifact", "unwritable"}
"""Faults of `--out`."""


def load_script(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(path.parent))


hostile = load_script(HOSTILE / "make.py")
golden = load_script(GOLDEN / "make.py")


def read_schema(name: str) -> dict:
    return json.loads((SERIALIZATION / f"{name}.schema.json").read_text(encoding="utf-8"))


def errors(name: str, data: object) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(read_schema(name)).iter_errors(data)]


# --- schemas


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_what_the_code_says(name: str) -> None:
    command = f"qcompile schema {name} > serialization/{name}.schema.json"
    assert read_schema(name) == json.loads(json.dumps(SCHEMAS[name]())), f"out of date; run: {command}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid_and_describes_every_field(name: str) -> None:
    schema = read_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    records = {"": schema} | schema["$defs"]
    bare = [
        f"{record}.{field}"
        for record, content in records.items()
        for field, value in content.get("properties", {}).items()
        if not value.get("description") and "$ref" not in value and field != "steps"
    ]
    assert not bare
    assert not [name for name, content in schema["$defs"].items() if content and not content.get("description")]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_fit_their_schema(path: Path) -> None:
    assert errors("recipe", yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"verison": 1}, "verison"),
        ({"version": "one"}, "integer"),
        ({"name": "Has Spaces"}, "match"),
        ({"steps": []}, "non-empty"),
        ({"steps": [{"quantise": {"component": "transformer"}}]}, "quantise"),
        ({"steps": [{"quantize": {"component": "transformer", "scheme": "int9"}}]}, "int9"),
        ({"shapes": [{"height": 0}]}, "not valid under any"),
    ],
)
def test_wrong_recipes_do_not(change: dict, word: str) -> None:
    data = yaml.safe_load((RECIPES / "flux_mini_int8.yaml").read_text(encoding="utf-8")) | change
    assert any(word in message for message in errors("recipe", data))


@pytest.mark.parametrize("name", GOLDENS)
def test_manifests_fit_their_schema(name: str) -> None:
    assert errors("manifest", json.loads((GOLDEN / name / MANIFEST).read_bytes())) == []


@pytest.mark.slow
def test_a_manifest_with_packages_fits_its_schema(compiled_artifact: Path) -> None:
    data = json.loads((compiled_artifact / MANIFEST).read_bytes())
    assert data["packages"]
    assert errors("manifest", data) == []


@pytest.mark.parametrize("name", ["manifest-wrong-type", "manifest-unknown-key", "manifest-no-shapes", "newer-format"])
def test_wrong_manifests_do_not(name: str) -> None:
    assert errors("manifest", json.loads((HOSTILE / name / MANIFEST).read_bytes()))


# --- golden


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_weights_are_the_same(name: str) -> None:
    expected = json.loads((GOLDEN / golden.DIGESTS).read_text(encoding="utf-8"))
    assert golden.weight_digests(qcompile.load(GOLDEN / name, device="cpu")) == expected[name]


@pytest.mark.parametrize("name", PIPELINES)
def test_golden_paints_the_same_image(name: str) -> None:
    pipeline = qcompile.load(GOLDEN / name, device="cpu")
    manifest = read_artifact(GOLDEN / name).manifest
    size = {"height": golden.PIXELS, "width": golden.PIXELS}
    generator = torch.Generator("cpu").manual_seed(manifest.verification.seed)
    image = pipeline(**manifest.call, **size, generator=generator).images[0]
    expected = np.asarray(Image.open(GOLDEN / name / "quantized.png"))
    assert expected.std() > 20  # else any grey square would do
    found = psnr_db(np.asarray(image), expected)
    assert found is None or found > MIN_PSNR_DB


@pytest.mark.parametrize("name", golden.MODELS)
def test_golden_model_computes(name: str) -> None:
    model = qcompile.load(GOLDEN / name, device="cpu")
    with torch.no_grad():
        output = model(**golden.example_inputs(), return_dict=False)[0]
    assert output.shape == (1, 16, 16)
    assert output.isfinite().all()


def test_every_golden_has_a_row_and_digests() -> None:
    text = (GOLDEN / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z0-9_-]+)` \|", text, re.MULTILINE) == GOLDENS
    assert f"{MIN_PSNR_DB:.0f} dB" in text
    assert sorted(json.loads((GOLDEN / golden.DIGESTS).read_text(encoding="utf-8"))) == GOLDENS


# --- hostile


@pytest.mark.parametrize("name", hostile.CASES)
def test_hostile_raises_exactly_its_fault(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = hostile.CASES[name].outcome
    with pytest.raises((qcompile.ArtifactError, qcompile.EnvironmentMismatch)) as caught:
        qcompile.load(HOSTILE / name, device="cpu")
    message = str(caught.value)
    if isinstance(caught.value, qcompile.ArtifactError):
        assert caught.value.fault == outcome
        assert name in message
    else:
        assert outcome in caught.value.fields
        assert f"{outcome}: built for" in message
    assert message.rstrip().endswith(".")
    assert "\n" not in message
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", [name for name, case in hostile.CASES.items() if case.outcome in FAULTS])
def test_reading_alone_refuses_all_but_tensors_and_steps(name: str) -> None:
    if hostile.CASES[name].outcome in ("bad_tensors", "bad_recipe"):
        read_artifact(HOSTILE / name)
        return
    with pytest.raises(qcompile.ArtifactError) as caught:
        read_artifact(HOSTILE / name)
    assert caught.value.fault == hostile.CASES[name].outcome


@pytest.mark.parametrize("name", ["other-torch", "other-cpu", "other-gpu"])
@pytest.mark.parametrize("options", [{"compiled": False}, {"on_mismatch": "eager"}])
def test_no_package_is_opened_where_none_is_wanted(name: str, options: dict) -> None:
    loaded = qcompile.load(HOSTILE / name, device="cpu", **options)
    assert loaded(torch.ones(1, 2, 16).bfloat16()).image_embeds.isfinite().all()


def test_whole_artifact_loads(tmp_path: Path) -> None:
    """What the broken ones are made from has nothing wrong, so that each fails for its own reason."""
    hostile.write_whole(tmp_path / "whole")
    loaded = qcompile.load(tmp_path / "whole", device="cpu")
    assert type(loaded.redux_up.weight).__name__ == "Int8Tensor"


def test_every_fault_is_shown() -> None:
    shown = {case.outcome for case in hostile.CASES.values()}
    assert shown - FAULTS.keys() == {"torch", "cpu_isa", "capability"}
    assert FAULTS.keys() - shown == NO_FOLDER | WRITING


def test_hostile_readme_has_every_folder() -> None:
    assert hostile.table() in (HOSTILE / "README.md").read_text(encoding="utf-8"), (
        "out of date; run: python serialization/hostile/make.py"
    )
    assert sorted(
        path.name for path in HOSTILE.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
    ) == sorted(hostile.CASES)


@pytest.mark.skipif(torchao.__version__ != "0.18.0", reason="the folders were made with torchao 0.18.0")
def test_hostile_folders_are_what_the_script_makes(tmp_path: Path) -> None:
    hostile.make(tmp_path)
    assert contents(tmp_path) == contents(HOSTILE), "out of date; run: python serialization/hostile/make.py"


def contents(folder: Path) -> dict[str, bytes | str]:
    paths = [
        path for name in hostile.CASES for path in (folder / name).rglob("*") if path.is_symlink() or path.is_file()
    ]
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in paths
    }


# --- FORMAT.md


def test_format_has_every_field_fault_and_compared_field() -> None:
    text = (SERIALIZATION / "FORMAT.md").read_text(encoding="utf-8")
    assert "qcompile/artifact/" in text.splitlines()[0]
    tables = load_script(SERIALIZATION / "tables.py")
    assert tables.renewed(text) == text, "out of date; run: python serialization/tables.py"
    for field in (*COMPARED, *COMPARED_ON_GPU):
        assert f"`{field}`" in text
    assert f"version {manifests.FORMAT_VERSION}" in text


def test_tables_name_every_field() -> None:
    text = (SERIALIZATION / "FORMAT.md").read_text(encoding="utf-8")
    schema = Manifest.model_json_schema()
    for record in [schema, *schema["$defs"].values()]:
        for field in record.get("properties", {}):
            assert f"| `{field}` |" in text


READ = """
import os, sys
from qcompile.artifact.read import read_artifact
from qcompile.bench import record as measured
folder, seen = sys.argv[1], []
def watch(event, arguments):
    if event in ("pickle.find_class", "subprocess.Popen", "os.system", "ctypes.dlopen", "socket.connect"):
        seen.append(event)
    if event == "exec" and arguments[0].co_filename.startswith(folder):
        seen.append(arguments[0].co_filename)
    written = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and str(arguments[0]).startswith(folder) and arguments[2] & written:
        seen.append(arguments[0])
sys.addaudithook(watch)
try:
    read_artifact(folder)
except Exception as error:
    print(type(error).__name__, end=" ")
print(seen + [name for name in ("torch", "diffusers", "transformers", "torchao", "numpy") if name in sys.modules])
"""


@pytest.mark.parametrize(
    "folder", [*(GOLDEN / name for name in GOLDENS), HOSTILE / "foreign-module", HOSTILE / "other-cpu"]
)
def test_reading_executes_nothing_and_imports_no_torch(folder: Path) -> None:
    found = subprocess.run([sys.executable, "-c", READ, folder], capture_output=True, text=True, check=True)
    assert found.stdout.strip().removeprefix("ArtifactError ") == "[]"
    assert ("ArtifactError" in found.stdout) == (folder.name == "foreign-module")
