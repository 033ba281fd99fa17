"""Code that no reader runs."""
