"""The state of the deliveries of webhooks: the port and its adapters."""
