"""What a schema says of a configuration, alike in the service and its clients."""
