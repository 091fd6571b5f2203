"""Changes that are proposed, reviewed, and applied at once or step by step."""
