"""The service registry: instances, their health, discovery and load balancing."""
