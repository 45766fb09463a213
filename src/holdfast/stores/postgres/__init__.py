"""The PostgreSQL store, one module a concern; `store` puts them together."""
