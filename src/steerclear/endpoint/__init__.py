"""Asking models behind an OpenAI-compatible HTTP endpoint."""

from steerclear.endpoint.client import Endpoint, Failure
from steerclear.endpoint.options import EndpointOptions
from steerclear.endpoint.replies import Reply

__all__ = ["Endpoint", "EndpointOptions", "Failure", "Reply"]
