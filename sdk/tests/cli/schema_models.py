"""Models whose JSON Schema the command line prints."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

STRICT = ConfigDict(strict=True, extra="forbid")


class Pool(BaseModel):
    model_config = STRICT
    min: int = Field(default=1, ge=1)
    max: int = Field(default=10, le=100)


class Database(BaseModel):
    model_config = STRICT
    host: str = Field(min_length=1, max_length=20, pattern="^[a-z][a-z0-9.-]*$")
    port: int | None = Field(default=None, gt=0, lt=65536)
    password: SecretStr | None = Field(default=None, min_length=3)
    pool: Pool = Pool()


class Limits(BaseModel):
    model_config = STRICT
    database: Database
    level: Literal["debug", "info"] = "info"
    ratio: float = Field(default=0.5, ge=0, le=1)
    tags: list[str] = Field(default_factory=list, max_length=2)
    weights: dict[str, int] = Field(default_factory=dict)
