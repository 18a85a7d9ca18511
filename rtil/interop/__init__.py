"""Readers of other projects' weights and adapters to other libraries."""
