"""What proposals set: kept where configurations are kept, secrets encrypted."""
