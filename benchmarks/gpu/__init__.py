"""Every figure that needs a CUDA GPU, measured by one command in under ten minutes: `python -m benchmarks.gpu`.

`README.md` says how to prepare a machine without a network, what each check measures and which faults are known.
"""
