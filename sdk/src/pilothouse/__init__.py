"""The client of Pilothouse: configurations, feature flags and service discovery, held in memory."""
