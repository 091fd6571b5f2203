"""Change events for other systems, published by a relay."""
