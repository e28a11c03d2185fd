# SPDX-License-Identifier: MIT
"""The benchmark: servers side by side on one machine. The method is in README.md."""
