"""Complete programs built on Holdfast: each one runs, and each one is tested."""
