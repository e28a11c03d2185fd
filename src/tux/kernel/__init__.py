# SPDX-License-Identifier: MIT
"""The kernel tier: remembered requests are answered by two eBPF programs at tc.

``bpf/`` has the programs, which the build turns into ``tier.bin`` (flatten). At run time: object reads that file, btf
knows the layouts of what is shared, load brings maps and programs into the kernel, attach binds them to an interface.
"""
