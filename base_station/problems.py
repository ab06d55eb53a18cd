"""Errors in the OpenAPI document, for every part of the API."""

from typing import Any

from pydantic import BaseModel, Field


class ProblemOut(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(default=None, description="Which part of the request is wrong.")


def problem_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of answers that are problems."""
    content = {"application/problem+json": {"schema": ProblemOut.model_json_schema()}}
    return {status: {"description": "Problem", "content": content} for status in statuses}


READING = problem_answers(401, 403, 404, 422, 503)
"""What any request for reading may be answered."""

CHANGING = problem_answers(400, 401, 403, 404, 409, 413, 415, 422, 503)
"""What any request that changes something may be answered."""
