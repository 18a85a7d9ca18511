"""The papers' theory in numbers: RTIL's two-layer linear model, and distances under a partial circulant operator."""
