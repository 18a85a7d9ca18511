"""Notebooks that are kept with their outputs; ``python -m docs.tutorials`` runs them anew."""
