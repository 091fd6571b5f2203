"""The items of proposals, by what they change."""
