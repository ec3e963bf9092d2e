"""Refusals in the words of the Bot API."""


class ApiError(Exception):
    """A call that the Bot API refuses.

    Args:
        code: HTTP status and `error_code` of the answer.
        description: as Telegram words it, with the name of the status in front.
        parameters: `ResponseParameters`, such as `{"migrate_to_chat_id": -100123}`.
    """

    def __init__(self, code: int, description: str, parameters: dict[str, int] | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters

    def json(self) -> dict[str, object]:
        """The body of the HTTP answer."""
        body: dict[str, object] = {"ok": False, "error_code": self.code, "description": self.description}
        if self.parameters:
            body["parameters"] = self.parameters
        return body


def bad_request(reason: str) -> ApiError:
    """A wrong or missing parameter."""
    return ApiError(400, f"Bad Request: {reason}")


def conflict(reason: str) -> ApiError:
    """Two ways of fetching updates at once."""
    return ApiError(409, f"Conflict: {reason}")
