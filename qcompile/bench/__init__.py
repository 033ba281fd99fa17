"""Measuring what a recipe gains and what it costs: arms, timing, fresh processes, limits of the machine, records."""
