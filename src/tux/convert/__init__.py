"""Configurations of other servers -> tux.toml: one file for each of them, and what they share."""
