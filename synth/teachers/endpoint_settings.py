"""What the settings of all teachers behind endpoints have in common."""

from pydantic import Field

from cluster.models import resolve_model
from cluster.settings import digest
from synth.method import Tokenizer
from synth.teacher import TeacherSettings
from synth.teachers.estimating import Estimate, NamedTokenizer


class EndpointSettings(TeacherSettings):
    """A model that others serve: replicas only send requests."""

    requests_per_minute: float | None = Field(None, gt=0)
    """Requests in a minute of all replicas together, where the endpoint or the account has such a limit."""
    timeout: float = Field(120, gt=0)
    """Seconds in which a request has to be answered; a third of `item_timeout` at most."""
    attempts: int = Field(6, ge=1)
    """Requests for one reply, as long as they fail for a reason that may pass."""
    outage: float = Field(600, ge=0)
    """Seconds for which an endpoint that has worked may be away before the run stops."""
    tokenizer_model: str | None = None
    """A model with the same tokenizer: hub id, folder, or `package:<import name>/<path>`. Without it,
    documents are cut by an estimate, and limits reserve more for a call than it will need."""
    replicas: int = Field(1, ge=1)
    """Processes that send requests, each as many at once as `concurrency` allows."""

    def check(self) -> str:
        if self.tokenizer_model is not None:
            resolve_model(self.tokenizer_model)
        return digest(self.identity())[:12]

    def tokenizer(self) -> Tokenizer:
        return Estimate() if self.tokenizer_model is None else NamedTokenizer(self.tokenizer_model)

    def request_timeout(self) -> float:
        """Return the seconds in which a request has to be answered, so that an item has time for some."""
        return min(self.timeout, self.item_timeout / 3)
