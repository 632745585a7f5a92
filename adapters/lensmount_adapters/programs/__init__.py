"""Compile a graph for this machine, and find out which compiler is fastest here.

executor.py has the protocols. Each optional executor is one file that only choose.py knows, by its name: deleting the
file removes the executor, and the others work as before.
"""
