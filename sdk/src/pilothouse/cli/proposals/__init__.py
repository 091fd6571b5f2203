"""Commands `pilothouse proposal`: changes that others approve before they are applied."""
