"""The stores of promotions and pins."""
