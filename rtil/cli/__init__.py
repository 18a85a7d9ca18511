"""Command-line programs: typed options around the calls that do the work."""
