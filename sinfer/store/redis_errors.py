"""What Redis' errors mean for those who asked: one table, by the codes of the protocol."""

from __future__ import annotations

from redis import exceptions

_PASSING = {
    "ASK": "the slot is moving to another node",
    "BUSY": "a script or function runs for too long",
    "CLUSTERDOWN": "the cluster is down",
    "LOADING": "it loads its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "MISCONF": "it refuses writes, since it cannot save to its disk",
    "MOVED": "another node has the slot now",
    "NOREPLICAS": "it refuses writes, since too few replicas follow",
    "NOSCRIPT": "its scripts were flushed meanwhile",
    "READONLY": "it is a replica now",
    "TRYAGAIN": "the slot is moving to another node",
    "UNBLOCKED": "its role changed meanwhile",
}
"""Errors that pass, or that someone who runs the server ends: an outage, whatever was asked."""

_CODES = {
    exceptions.AskError: "ASK",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoScriptError: "NOSCRIPT",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}
"""Of these the client has taken the code off the text."""

_REPLICA = "cannot be used with replica instances"
"""WAITAOF on a replica has no code of its own."""


def code_of(error: exceptions.RedisError) -> str:
    """The code that the server's answer began with, in capitals; empty when it had none."""
    if (known := _CODES.get(type(error))) is not None:
        return known
    if getattr(error, "status_code", None) == "ERR":
        return ""
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    code = text.partition(" ")[0]
    return code if code.isupper() else ""


def outage_of(error: BaseException) -> str | None:
    """Why Redis does nothing at the moment, in a few words; None when it does, or says no more."""
    if not isinstance(error, exceptions.ResponseError | exceptions.BusyLoadingError):
        return None
    if _REPLICA in str(error):
        return _PASSING["READONLY"]
    return _PASSING.get(code_of(error))


def connection_was_lost(error: BaseException) -> bool:
    """Whether an error of the store comes of a connection that was ended, or never came about."""
    return isinstance(error.__cause__, exceptions.ConnectionError)
