"""The migrations of the app, one for each of the store."""
