"""What the service and its clients must agree on for ever. Pure: no I/O, no framework."""
