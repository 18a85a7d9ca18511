"""Error against seconds, of docs/real_faces.md: how far ILO and CSGM are when (ILO, ICML 2021, figures 6, 7)."""
