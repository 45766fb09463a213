"""Holdfast inside of other frameworks: one package each, with drivers that are extras."""
