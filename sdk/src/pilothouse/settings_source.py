"""A source for pydantic-settings. The extra `pydantic`."""

from collections.abc import Iterator
from typing import Any

from pydantic import AliasChoices, AliasPath
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from pilothouse.client import Pilothouse
from pilothouse.reading import load_section, read_once


class PilothouseSettingsSource(PydanticBaseSettingsSource):
    """The effective configuration for the fields of a settings class, by their names or aliases.

    Keys that are no field are left out, unless the class allows extras. Raises a PilothouseError
    if the service fails and there is no snapshot: settings are never built from nothing.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        client: Pilothouse | None = None,
        section: str = "",
        **arguments: Any,
    ) -> None:
        """Read from `client`; without one by `arguments`, those of `Pilothouse`, and environment.

        `section` is a dotted key below which the fields are.
        """
        super().__init__(settings_cls)
        if client is not None:
            self._data = load_section(client, section)
        else:
            self._data = read_once(section, **arguments)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value, the name that the class reads it by, and that it is no JSON text."""
        names = list(_names(field))
        for name in [*names, field_name]:
            if name in self._data:
                key = names[0] if names and name == field_name else name
                return self._data[name], key, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        allows_more = self.config.get("extra") == "allow"
        values = dict(self._data) if allows_more else {}
        for field_name, field in self.settings_cls.model_fields.items():
            names = {*_names(field), field_name}
            if names & self._data.keys():
                for name in names:
                    values.pop(name, None)
                value, key, _ = self.get_field_value(field, field_name)
                values[key] = value
        return values


def _names(field: FieldInfo) -> Iterator[str]:
    alias = field.validation_alias or field.alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, AliasPath):
            yield str(choice.path[0])
        elif choice is not None:
            yield str(choice)
