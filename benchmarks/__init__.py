"""Measurements of speed and memory, each against a named reference, each with one command."""
