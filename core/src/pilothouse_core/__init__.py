"""The code that the service and its clients share: pure, without I/O or framework."""
