"""A shop in Django: orders with a flow, their history and their buttons in the admin."""
