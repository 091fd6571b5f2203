"""The routes of promotions."""
