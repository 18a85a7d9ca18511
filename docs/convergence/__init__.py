"""Error against seconds, of docs/results.md: how far ILO and CSGM have come when (ILO, ICML 2021, figures 6 and 7)."""
