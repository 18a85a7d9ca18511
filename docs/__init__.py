"""Scripts that compute what the documents show; they run from a checkout and are not installed."""
