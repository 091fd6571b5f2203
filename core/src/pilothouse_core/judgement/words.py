"""What a schema expects of a place, in words that hold no value of the configuration."""

from typing import Any, Final

_EXPECTATIONS: Final = {
    "additionalProperties": "is not known here",
    "additionalItems": "has more than {} items",
    "anyOf": "matches none of the alternatives",
    "const": "is not {}",
    "contains": "has the wrong number of items of the expected kind",
    "contentEncoding": "is not encoded as {}",
    "contentMediaType": "is not of the media type {}",
    "enum": "is not one of {}",
    "exclusiveMaximum": "is not below {}",
    "exclusiveMinimum": "is not above {}",
    "dependentRequired": "is missing",
    "false": "is not allowed",
    "falseSchema": "is not allowed",
    "format": "is not of the format {}",
    "maxItems": "has more than {} items",
    "maxLength": "has more than {} characters",
    "maxProperties": "has more than {} members",
    "maximum": "is above {}",
    "minItems": "has fewer than {} items",
    "minLength": "has fewer than {} characters",
    "minProperties": "has fewer than {} members",
    "minimum": "is below {}",
    "multipleOf": "is not a multiple of {}",
    "not": "is of a kind that is not allowed",
    "oneOf": "does not match exactly one of the alternatives",
    "pattern": "does not match {}",
    "propertyNames": "has a member with a name that is not allowed",
    "required": "is missing",
    "type": "is not of type {}",
    "unevaluatedItems": "has an item that is not known here",
    "unevaluatedProperties": "is not known here",
    "uniqueItems": "has an item twice",
}


def expectation(keyword: str, expected: Any) -> str:
    """Say what is wrong at a place; `expected` is what the schema says of it by this keyword."""
    template = _EXPECTATIONS.get(keyword, "does not match its schema")
    separator = " or " if keyword == "type" else ", "
    listed = isinstance(expected, list)
    return template.format(separator.join(map(str, expected)) if listed else str(expected))
