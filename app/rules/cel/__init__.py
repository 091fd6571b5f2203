"""Rules between fields in CEL, evaluated in a process of their own."""
