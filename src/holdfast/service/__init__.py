"""What makes machines durable: plans, which decide and write, and the services that run them."""
