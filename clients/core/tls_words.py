"""What went wrong with TLS, in words for people and with what helps: for the load, the run's checks, the probe (pure).

`SSLError.reason` is OpenSSL's name of an error, where Python knows it. One that begins as _ALERT says is no error of
ours: the other side has ended the connection by that alert (RFC 8446 §6.2).
"""

from __future__ import annotations

import re
import ssl

_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?")
_AROUND = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")
_ANOTHER_NAME = "takes a URL with a name that the certificate has, or --insecure"
_AT_ANOTHER_TIME = "it takes a certificate that is valid now (and a clock that is right), or --insecure"
# By X509_V_ERR_…, which `verify_code` is; --cafile helps against all others.
_OF_CERTIFICATE = {9: _AT_ANOTHER_TIME, 10: _AT_ANOTHER_TIME, 62: _ANOTHER_NAME, 64: _ANOTHER_NAME}
_NO_TLS_AT_ALL = "what answers there speaks no TLS: is it an http:// address?"
_NO_VERSION = "it takes a server that speaks TLS 1.2 or 1.3"
_NO_OWN_CERTIFICATE = "it wants a certificate of its clients, and Tokenderby has none to show"
_OF_REASON = {
    "wrong version number": _NO_TLS_AT_ALL,
    "record layer failure": _NO_TLS_AT_ALL,  # the same since OpenSSL 3.2
    "protocol version": _NO_VERSION,
    "unsupported protocol": _NO_VERSION,
    "certificate required": _NO_OWN_CERTIFICATE,
    "bad certificate": _NO_OWN_CERTIFICATE,  # some say so of none
    "handshake failure": "it shares no cipher with us, or wants a certificate of its clients, which Tokenderby has not",
    "no application protocol": "it does not speak the version of HTTP that is asked for",
    "unrecognized name": "it knows no such name: takes a URL with one that it serves",
}
# Those by which a server refuses who has shown no certificate. Under TLS 1.3 a client's handshake is over by then.
_AFTER_HANDSHAKE = frozenset({"certificate required", "bad certificate", "handshake failure", "access denied"})


def _name(error: ssl.SSLError) -> str:
    """OpenSSL's name of the error: `WRONG_VERSION_NUMBER`. One that Python does not know stands in its text alone."""
    return error.reason or _AROUND.sub("", str(error)).replace(" ", "_").upper()


def _word(error: ssl.SSLError) -> str:
    """The error's name, or the alert's, as people read it: `wrong version number`."""
    return _ALERT.sub("", _name(error)).replace("_", " ").lower()


def failed_handshake(error: ssl.SSLError) -> str:
    """Why there is no secure connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = str(error.verify_message).rstrip(".")
        helps = _OF_CERTIFICATE.get(error.verify_code, "see --cafile and --insecure")
        return f"the server's certificate is not trusted ({why}); {helps}"
    word = _word(error)
    return f"no TLS with this server ({word})" + (f"; {_OF_REASON[word]}" if word in _OF_REASON else "")


def alert_in(error: ssl.SSLError) -> str:
    """The alert by which the other side has ended the connection, as `internal error`; empty if it was none."""
    return _word(error) if _ALERT.match(_name(error)) else ""


def refuses_us(alert: str) -> bool:
    """Whether this alert, before anything else came, is a handshake's: who has shown no certificate is not let in."""
    return alert in _AFTER_HANDSHAKE
