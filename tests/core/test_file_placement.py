"""Files of a folder are placed by their names: existing stems first, then known environments."""

import pytest

from pilothouse_core.file_placement import place_files


def places_of(*names: str, **known: list[str]) -> dict[str, tuple[str, str | None]]:
    files = place_files(names, **known).files
    return {file.name: (file.service, file.environment) for file in files}


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("application.yml", (), ("_shared", None)),
        ("application-dev.yml", (), ("_shared", "dev")),
        ("orders.yml", (), ("orders", None)),
        ("orders-production.yml", ("orders.yml",), ("orders", "production")),
        ("orders-eu-west.yml", ("orders.yml",), ("orders", "eu-west")),
        ("orders-dev.yml", ("application-dev.yml",), ("orders", "dev")),
        ("orders-api.yml", (), ("orders-api", None)),
        ("Billing.YML", (), ("Billing", None)),
        (".env", (), ("_shared", None)),
        ("orders.ENV", (), ("orders", None)),
        (".env.dev", ("application-dev.yml",), ("_shared", "dev")),
    ],
)
def test_a_file_is_placed_by_its_name(
    name: str, others: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    assert places_of(name, *others)[name] == expected


def test_what_the_service_knows_decides_where_the_folder_does_not() -> None:
    names = ("orders-eu-prod.yml", "cart-api.yml", "shop-test.json")
    known = {"environments": ["prod", "eu-prod", "api"], "services": ["cart-api", "shop"]}

    assert places_of(*names, **known) == {
        "orders-eu-prod.yml": ("orders", "eu-prod"),
        "cart-api.yml": ("cart-api", None),
        "shop-test.json": ("shop", "test"),
    }


def test_what_is_not_placed_is_named_with_its_reason() -> None:
    names = ["application-default.yml", ".env.example", "notes.txt", "Makefile", "a.yml"]

    found = place_files(names)

    assert [file.name for file in found.files] == ["a.yml"]
    assert {name for name, _ in found.left_out} == set(names) - {"a.yml"}
    assert all(reason for _, reason in found.left_out)


def test_properties_are_sent_after_yaml_of_the_same_name() -> None:
    names = ["a.properties", "a.yml", "a.yaml", "a.json", "a-x.yml"]

    assert [file.name for file in place_files(names).files] == [
        "a.json",
        "a.yaml",
        "a.yml",
        "a.properties",
        "a-x.yml",
    ]
