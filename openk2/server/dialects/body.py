"""Request bodies read with exact types, and refusals that name the field.

In: decoded JSON and the shape that it should have. Out: a checked object, or `ApiError`.
Must not know: any dialect's fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from openk2.server.errors import ApiError

Json = dict[str, Any]

Refusals = Mapping[str, tuple[tuple[Any, ...], str]]
"""Field to the values that change nothing, and advice for those who sent another."""

_LONGEST_PATH = 200


class In(BaseModel):
    """Strict about types, silent about unknown fields."""

    model_config = ConfigDict(strict=True, extra="ignore")


Shape = TypeVar("Shape", bound=In)


def is_object(value: object) -> TypeGuard[Json]:
    """Tell whether `value` was a JSON object."""
    return isinstance(value, dict)


def read(shape: type[Shape], value: object, at: str = "") -> Shape:
    """Check `value`, which stands at the path `at` of the body.

    Raises:
        ApiError: 400, with `param` naming the field that is wrong.
    """
    if not is_object(value):
        raise bad(at, "must be an object") if at else not_an_object()
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise _invalid(error, at) from None


def refuse_unsupported(body: Json, refusals: Refusals) -> None:
    """Refuse fields which a body may only have with values that change nothing.

    Raises:
        ApiError: 400, naming the first of them.
    """
    for name, (harmless, advice) in refusals.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise bad(name, f"this value is not supported: {advice}", code="unsupported_value")


_IMAGES = ("image", "image_url", "input_image")
_IMAGE_LEFT_OUT = "[There was an image here. Only text can be read.]"


def without_images(parts: Sequence[object], path: str, warnings: list[str]) -> list[object]:
    """Put words in the place of the images that a tool gave, and warn of each.

    A tool's output stays in the conversation: if its image were refused, so would be everything
    that the client asks from then on.
    """
    left: list[object] = []
    for index, part in enumerate(parts):
        if is_object(part) and part.get("type") in _IMAGES:
            warnings.append(f"{path}[{index}]: the image was left out; only text can be read")
            part = {"type": "text", "text": _IMAGE_LEFT_OUT}
        left.append(part)
    return left


def bad(path: str, problem: str, *, code: str | None = None) -> ApiError:
    """Return the refusal of the field at `path`."""
    path = path[:_LONGEST_PATH]
    return ApiError(400, f"{path}: {problem}.", param=path, code=code)


def not_an_object() -> ApiError:
    """Return the refusal of a body that is no JSON object."""
    return ApiError(400, "The request body must be a JSON object.")


def shown(value: str) -> str:
    """Return what a client sent as a short quotation."""
    return repr(value if len(value) <= 80 else value[:79] + "…")


def _invalid(error: ValidationError, at: str) -> ApiError:
    first = error.errors(include_url=False)[0]
    path = at
    for step in first["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    problem = {
        "missing": "is required",
        "model_type": "must be an object",
        "value_error": str(first.get("ctx", {}).get("error", "")),
    }.get(first["type"]) or re.sub(r"^\w+ should", "must", first["msg"])
    return bad(path, problem.replace(" after validation", ""))
