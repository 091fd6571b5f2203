"""Access tokens of people from an OpenID Connect issuer."""
