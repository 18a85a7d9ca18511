"""Measurements of speed and memory, each against a named reference, each with one command: ``python -m benchmarks``.

A benchmark is a module with ``main(argv)`` that hands a dataclass of options and a function of it, which prints its
tables and returns its figures, to :func:`benchmarks.frame.run_benchmark`. Ways that are compared run in turns within
one process or one command (:mod:`benchmarks.timing`); with ``--record`` the figures become a row of
``benchmarks/results/NAME.jsonl`` (:mod:`benchmarks.record`), beside the machine (:mod:`benchmarks.machine`).
"""

PROG = "python -m benchmarks"
