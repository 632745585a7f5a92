"""Kernels for CUDA GPUs in Triton, where torch needs too many launches; each has the same function in torch.

A GPU spends about 5 us on a launch. torch merges an adapter of 18 layers with 72 of them, and adds the low-rank terms
of a mixed batch with four for each layer. Triton comes with torch's CUDA builds. Without it, and on a CPU, torch
computes.
"""
