"""Webhooks: changes of the log are sent to receivers over HTTP."""
