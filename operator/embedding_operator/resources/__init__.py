"""Builders of the objects that a resource owns: pure functions that return plain dictionaries, one to one
with YAML.

No builder reads the environment, the clock or the cluster.
"""
