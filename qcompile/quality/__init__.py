"""How near a changed pipeline stays to its original, and what a recipe's bounds say of it.

trajectory   the denoiser's calls along the original's own way, and the error at each
similarity   SSIM of two images
tasks        prompts and seeds that are painted, and the task score where a model has one
reference    everything the original shows; measuring another pipeline against it
bounds       figures against the bounds of a recipe
faults       values that are not finite, black images, and the first layer that makes them
"""
