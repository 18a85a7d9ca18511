"""Studies: a figure or table of a paper, or of one's own, from one file and one command.

A study names checkpoints, evaluations (with the very options of ``rtil eval``), seeds, what is tuned, and figures. Its
folder has an evaluation's folder for each of its runs, what tuning tried, and what is made of all of it.
"""
