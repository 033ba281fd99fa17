"""Where a denoising step spends its time, and what keeps it from being faster.

`run.profile` puts together what the other modules find: `arms` (what is run), `record` (kernels of a step), `breaks`
(graph breaks and recompilations), `syncs` (waiting for the GPU), `advice` (what to do about each).
"""
