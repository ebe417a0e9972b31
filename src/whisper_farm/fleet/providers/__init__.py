"""What places workers: one file for each sort of provider, found by entry point (see `provider.py`)."""
