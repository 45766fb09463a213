"""The app: orders."""
