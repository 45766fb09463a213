"""The named-state form of a machine: names, rules between them, guards and callbacks."""
