"""Measuring reconstructions: the grid of cells, per-image metrics, paired statistics, tables and pictures."""
