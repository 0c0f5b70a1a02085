"""What an error of boto3's means for a call on Bedrock, in words that name the setting and hold no secret."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synth.teachers.endpoint_faults import Fault, Kind, retry_after

_UNKNOWN_CALLER = {
    "IncompleteSignature", "IncompleteSignatureException", "InvalidClientTokenId",
    "InvalidSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
    "NotAuthorized", "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_THROTTLED = {
    "LimitExceededException", "ModelNotReadyException", "ServiceQuotaExceededException",
    "ServiceUnavailableException", "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
_DAILY = re.compile(r"\bper day\b|\bdaily\b", re.I)
_MODEL = re.compile(
    r"model identifier|on-demand throughput|inference profile|invalid model"
    r"|model\b.{0,80}?(not found|end of)",
    re.I,
)
_TOO_MUCH = re.compile(r"max(imum)?[ _]?tokens", re.I)
_INPUT = re.compile(r"input (is|length)|prompt|context|too long", re.I)
_EXTRA = re.compile(r"extraneous key|additionalModelRequestFields|extra inputs", re.I)

UNREADABLE = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What botocore's parser raises for JSON that is not of the shape it expects."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is asked and where, for messages that name the setting to mend."""

    model: str
    region: str
    address: str | None
    has_extra: bool

    def __str__(self) -> str:
        return self.address or f"Bedrock in {self.region}"

    def setting(self) -> str:
        """Return the name of the setting that says where requests go."""
        return "teacher.endpoint_url" if self.address else "teacher.region"


def judge(error: Exception, place: Place, scrub: Callable[[str], str]) -> Fault:
    """Return the fault that an error raised by boto3 is."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return _of_answer(error.response, place, scrub)
    return _without_answer(error, place)


def _without_answer(error: Exception, place: Place) -> Fault:
    """Only classes are named: what these errors say holds addresses and paths, or all of a body."""
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    name = type(error).__name__
    if isinstance(error, known.ReadTimeoutError):
        return Fault(Kind.SLOW, "no answer in time")
    if isinstance(error, known.ConnectTimeoutError | known.ConnectionError | known.ProxyConnectionError):
        return Fault(Kind.AWAY, f"{place} cannot be reached ({name})")
    if isinstance(error, known.HTTPClientError):
        return Fault(Kind.AGAIN, f"the connection broke ({name})")
    if isinstance(error, (ResponseParserError, *UNREADABLE)):
        return Fault(Kind.AGAIN, "it answers what cannot be read")
    if isinstance(error, known.CredentialRetrievalError | known.MetadataRetrievalError):
        # Those who hand out temporary credentials may be away for a moment, too.
        return Fault(Kind.AWAY, f"no credentials could be fetched ({name})")
    if isinstance(
        error,
        known.NoCredentialsError | known.PartialCredentialsError | known.SSOError | known.TokenRetrievalError
        | known.NoAuthTokenError | known.ProfileNotFound,
    ):  # fmt: skip
        return Fault(
            Kind.ALL, f"{place}: no credentials were found on the replica's node ({name}); {_REMEDY}"
        )
    if isinstance(error, known.ParamValidationError):
        return Fault(
            Kind.ITEM, "boto3 finds the request invalid: a part of the prompt is empty, or of no use"
        )
    if isinstance(error, known.InvalidEndpointConfigurationError):
        said = "boto3 does not send its credentials there; a bearer token needs an https address"
        return Fault(Kind.ALL, f"{place}: {said}; mend teacher.endpoint_url")
    return Fault(Kind.ITEM, f"boto3 fails ({name})")


_REMEDY = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or AWS_BEARER_TOKEN_BEDROCK there, or give "
    "the node a role"
)


def _of_answer(response: Mapping[str, Any], place: Place, scrub: Callable[[str], str]) -> Fault:
    error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(error.get("Code", "")), int(meta.get("HTTPStatusCode", 0))
    headers = {str(name).title(): str(value) for name, value in meta.get("HTTPHeaders", {}).items()}
    words = str(error.get("Message", ""))
    said = (
        f"{status} {code}".strip() if words.lstrip().startswith("<") else scrub(words) or f"{status} {code}"
    )
    if (refusal := _refusal(code, status, said, place)) is not None:
        return Fault(Kind.ALL, refusal, status=status)
    kind = _kind(code, status)
    if kind is Kind.ITEM and (mistake := _mistake(said, place)) is not None:
        return Fault(Kind.ALL, mistake, status=status)
    return Fault(kind, f"{status} {code}: {said}" if code not in said else said, retry_after(headers), status)


def _refusal(code: str, status: int, said: str, place: Place) -> str | None:
    """Return what is to be said when no call will be answered; None when some may be."""
    if code in _EXPIRED:
        return (
            f"{place}: the credentials have expired ({code}); renew them on the replicas' nodes, and the "
            "same command goes on from here"
        )
    if code in _UNKNOWN_CALLER or status == 401:
        # What it says of a signature repeats what was signed, a session token included.
        return (
            f"{place}: the credentials are not accepted ({code or status}); {_REMEDY}, and see that its "
            "clock is right"
        )
    if status == 403:
        return (
            f"{place}: access to {place.model} is denied ({said}); allow bedrock:InvokeModel for the "
            "credentials on the replicas' nodes, give the account access to the model, or mend teacher.model"
        )
    if status == 404:
        return f"{place} has no model {place.model!r} ({said}); mend teacher.model or {place.setting()}"
    if 300 <= status < 400 or status == 405:
        return f"{place} is not where Bedrock's runtime is ({status}); mend {place.setting()}"
    if code in _THROTTLED and _DAILY.search(said):
        return (
            f"{place}: the quota of the day is used up ({said}); the same command goes on from here "
            "tomorrow, or when the quota is raised in AWS Service Quotas"
        )
    return None


def _kind(code: str, status: int) -> Kind:
    if code in _THROTTLED or status in (429, 503, 529):
        return Kind.THROTTLED
    if status == 408 or code == "ModelTimeoutException":
        return Kind.SLOW
    if 400 <= status < 500 and status not in (409, 424, 425):
        return Kind.ITEM
    return Kind.AWAY if status == 502 else Kind.AGAIN


def _mistake(said: str, place: Place) -> str | None:
    """Return what is to be said of a request that is refused for its settings and not for its prompt."""
    if _MODEL.search(said):
        return (
            f"{place} does not take {place.model!r} ({said}); mend teacher.model: a model id, or the id or "
            "ARN of an inference profile that contains it"
        )
    if _TOO_MUCH.search(said) and not _INPUT.search(said):
        return f"{place} refuses method.sampling.max_tokens ({said}); lower it"
    if place.has_extra and _EXTRA.search(said):
        return f"{place} refuses teacher.extra ({said}); mend it"
    return None
