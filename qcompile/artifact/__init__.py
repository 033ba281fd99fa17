"""The artifact: a folder that holds quantized weights, compiled code, and a manifest of both.

`serialization/FORMAT.md` is its specification.

    manifest   the types of qcompile.json
    tensors    a component's tensors <-> safetensors files
    staging    a folder that appears under its name only when it is complete
    write      close a staged folder: digests, manifest
    read       folder -> verified Artifact; nothing is executed
"""
