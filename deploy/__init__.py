"""Bringing the parts together: the launcher of `make run`; later bundles, phones and stations."""
