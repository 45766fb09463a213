"""What users declare, pure: states, commands, handlers, and the graph they make. Knows no store."""
