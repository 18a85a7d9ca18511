"""Error against seconds, of docs/real_faces.md: how far ILO and CSGM have come when (ILO, ICML 2021, figures 6 and 7)."""
