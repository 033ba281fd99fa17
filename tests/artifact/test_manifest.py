import json

import pydantic
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.artifact.manifest import (
    MANIFEST,
    ComponentRecord,
    FileRecord,
    Manifest,
    ModelRecord,
    RecipeRecord,
    ShapeRecord,
    Verification,
    digest_holds,
    from_bytes,
    to_bytes,
)
from qcompile.artifact.read import read_artifact
from qcompile.change import Change
from qcompile.environment import Environment
from qcompile.errors import ArtifactError
from qcompile.package import CallSpec, LiftedInput, Package, TensorSpec

GOLDEN = ROOT / "serialization" / "golden" / "model-int8_weight_only" / MANIFEST

names = st.text(min_size=1, max_size=12)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
finite = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.integers(0, 2**62)
plain = st.none() | st.booleans() | st.integers() | finite | st.text()
json_values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
outputs = st.recursive(
    st.none() | st.integers(0, 9),
    lambda inner: st.fixed_dictionaries({"tuple": st.lists(inner)}) | st.fixed_dictionaries({"list": st.lists(inner)}),
    max_leaves=4,
)
specs = st.builds(CallSpec, tensors=st.lists(st.builds(TensorSpec), max_size=2).map(tuple))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    components = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    shapes = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    labels, component = st.sampled_from(shapes), st.sampled_from(components)
    package = st.builds(
        Package,
        component=component,
        shapes=st.lists(labels).map(tuple),
        call=specs,
        inputs=st.lists(st.builds(LiftedInput), max_size=2).map(tuple),
        output=outputs,
        inductor=st.dictionaries(st.text(), plain, max_size=2),
        relative_errors=st.dictionaries(st.text(), finite, max_size=2),
        build_seconds=finite,
    )
    record = st.builds(ComponentRecord, bytes_before=sizes, bytes_after=sizes)
    return Manifest(
        qcompile=draw(st.text()),
        recipe=draw(st.builds(RecipeRecord, sha256=digests)),
        model=draw(st.builds(ModelRecord)),
        environment=draw(st.builds(Environment)),
        denoiser=draw(component),
        call=draw(st.dictionaries(st.text(), json_values, max_size=3)),
        shapes={label: draw(st.builds(ShapeRecord)) for label in shapes},
        components={name: draw(record) for name in components},
        changes=tuple(draw(st.lists(st.builds(Change, component=component), max_size=2))),
        calls={label: draw(specs) for label in shapes},
        packages=tuple(draw(st.lists(package, max_size=2))),
        verification=draw(
            st.builds(
                Verification,
                quantized_relative_error=st.dictionaries(labels, finite),
                compiled_relative_error=st.dictionaries(labels, finite),
                image_psnr_db=st.none() | finite,
            )
        ),
        files=draw(st.dictionaries(names, st.builds(FileRecord, sha256=digests, bytes=sizes), max_size=3)),
    )


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_bytes_give_the_manifest_back(manifest: Manifest) -> None:
    content = to_bytes(manifest)
    back = from_bytes(content)
    assert digest_holds(content)
    assert back.model_copy(update={"manifest_sha256": manifest.manifest_sha256}) == manifest
    assert to_bytes(back) == content


@settings(max_examples=60, deadline=None)
@given(manifests(), st.data())
def test_a_changed_byte_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    content = bytearray(to_bytes(manifest))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    assert not digest_holds(bytes(content))


def test_every_single_flipped_bit_is_refused() -> None:
    content = GOLDEN.read_bytes()
    for place in range(0, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        assert not digest_holds(bytes(changed)), place


def test_a_digest_inside_a_text_is_not_taken_for_the_manifests_own() -> None:
    manifest = from_bytes(GOLDEN.read_bytes())
    call = {"prompt": '"manifest_sha256": "' + "0" * 64 + '"', "manifest_sha256": "0" * 64}
    content = to_bytes(manifest.model_copy(update={"call": call}))
    assert digest_holds(content)
    assert from_bytes(content).call == call


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("denoiser",), "unet"),
        (("changes", 0, "component"), "vae"),
        (("changes", 0, "step"), "0"),
        (("changes", 0, "more"), 1),
        (("calls",), {"other": {"device_type": "cpu", "tensors": []}}),
        (("components", "transformer", "bytes_after"), -1),
        (("files", "recipe.yaml", "sha256"), "A" * 64),
        (("files", "recipe.yaml", "bytes"), 1.5),
        (("verification", "seed"), True),
        (("model", "dtype"), "int8"),
        (("shapes",), {}),
    ],
)
def test_wrong_values_are_refused(place: tuple, value: object) -> None:
    data = json.loads(GOLDEN.read_bytes())
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(pydantic.ValidationError):
        from_bytes(json.dumps(data).encode())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_never_get_in(number: float) -> None:
    with pytest.raises(pydantic.ValidationError):
        Verification(quantized_relative_error={"a": number}, compiled_relative_error={}, image_psnr_db=None, seed=0)


(PACKAGE,) = json.loads((ROOT / "serialization" / "hostile" / "other-cpu" / MANIFEST).read_bytes())["packages"]


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("call", {"guidance_scale": "NUMBER"}, "call.guidance_scale"),
        ("call", {"sigmas": [1.0, ["NUMBER"]]}, "call.sigmas.1.0"),
        (
            "packages",
            [PACKAGE, PACKAGE | {"relative_errors": {"blocks.0": "NUMBER"}}],
            "packages.1.relative_errors.blocks",
        ),
        ("packages", [PACKAGE | {"build_seconds": "NUMBER"}], "packages.0.build_seconds"),
        ("packages", [PACKAGE | {"inductor": {"a": "NUMBER"}}], "packages.0.inductor.a"),
        ("packages", [PACKAGE | {"output": {"tuple": ["NUMBER"]}}], "packages.0.output.tuple.0"),
        ("verification", {"quantized_relative_error": {"a": "NUMBER"}}, "finite"),
    ],
)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_not_read(key: str, value: object, place: str, number: str) -> None:
    data = json.loads(GOLDEN.read_bytes())
    data[key] = data[key] | value if key == "verification" else value
    text = json.dumps(data)
    from_bytes(text.replace('"NUMBER"', "1.5").encode())
    with pytest.raises(pydantic.ValidationError, match=place):
        from_bytes(text.replace('"NUMBER"', number).encode())


def test_message_names_the_field(tmp_path) -> None:
    data = json.loads(GOLDEN.read_bytes()) | {"shapes": {}}
    text = json.dumps(data | {"manifest_sha256": "0" * 64})
    import hashlib

    (tmp_path / MANIFEST).write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1))
    with pytest.raises(ArtifactError, match=r"qcompile\.json: shapes: .*qcompile apply"):
        read_artifact(tmp_path)
