"""An S3 server for tests: `python tests/tools/s3.py <folder of objects> [settings.json]`

Moto keeps the objects and answers whatever is asked of them. What is in front of it checks every signature, as moto
does not, with botocore's own signers; reads ranges and conditions as S3 does; and fails on purpose (FAULTS).
Prints one line, `{"url": "http://127.0.0.1:PORT"}`, once it answers, and ends when its stdin closes.

The bucket `media` holds the files of the folder, under their paths, with what its `.types.json` states of them; the
bucket `other` holds `secret.m4s`, which no request for `media` may ever reach. Both are served by path
(`/media/key`), by host (`media.` and anything, in `Host` or in a target as proxies get it), and to whoever has the
credentials in the settings. DEFAULTS are the settings.

`GET /-/asked`, without a signature, lists the requests so far, and `DELETE /-/asked` forgets them. A `status` of null
is a connection that was closed without an answer.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, HeadersDict
from botocore.credentials import Credentials
from moto.core.botocore_stubber import BotocoreStubber

DEFAULTS = {
    # Those of AWS's own examples.
    "accessKeyId": "AKIDEXAMPLE",
    "secretAccessKey": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    # With one, the key is a temporary one, which is good for nothing without it.
    "sessionToken": None,
    "region": "us-east-1",
    # Whether a key that is not there is a 403, as for whoever may not list the bucket.
    "hideMissing": False,
    # More of the bucket `media`, key to text: no file has a name with `//`.
    "objects": {},
}
UTC = timezone.utc
SKEW = timedelta(minutes=15)
WEEK = 604_800
WORDS = "the origin's own words"
PATTERN = bytes(i * 7 % 251 for i in range(300_000))

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
ERRORS = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is not valid."),
    "AuthorizationQueryParametersError": (400, "The authorization query parameters that you provided are not valid."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "InvalidArgument": (400, "Only one auth mechanism allowed"),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Missing required header for this request: x-amz-content-sha256"),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "PermanentRedirect": (301, "The bucket must be addressed using the specified endpoint."),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "SignatureDoesNotMatch": (403, "The request signature we calculated does not match the signature you provided."),
    "SlowDown": (503, "Please reduce your request rate."),
    "TemporaryRedirect": (307, "Please re-send this request to the specified temporary endpoint."),
}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    # How it is sent: after how many seconds, how much of its body, how long nothing comes then, how many bytes more
    # than there are its length claims, and whether it says a length at all.
    delay: float = 0
    part: float = 1
    stall: float = 0
    claim: int = 0
    chunked: bool = False

    def having(self, **headers: str) -> "Answer":
        return replace(self, headers=self.headers | {name.replace("_", "-"): headers[name] for name in headers})

    def without(self, name: str) -> "Answer":
        return replace(self, headers={other: value for other, value in self.headers.items() if other != name})


def error(code: str, message: str | None = None, **headers: str) -> Answer:
    status, usual = ERRORS[code]
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message or usual)} '
        f"{WORDS}</Message><RequestId>4442587FB7D0A2F9</RequestId><HostId>example</HostId></Error>"
    )
    return Answer(status, {"content-type": "application/xml"}, body.encode()).having(**headers)


class Refusal(Exception):
    def __init__(self, code: str, message: str | None = None, **headers: str):
        self.answer = error(code, message, **headers)


@dataclass
class Request:
    method: str
    host: str
    path: bytes  # decoded
    query: list[tuple[str, str]]  # decoded
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    bucket: str = field(init=False)
    key: str = field(init=False)
    style: str = field(init=False)

    def __post_init__(self):
        # A key that is not UTF-8 is kept readable here, for /-/asked, and refused later.
        path = self.path.decode(errors="backslashreplace")[1:]
        by_host = re.match(r"(media|other)\.", self.host)
        self.style = "virtual" if by_host else "path"
        self.bucket, self.key = (by_host[1], path) if by_host else (*path.split("/", 1), "")[:2]

    @property
    def name(self) -> str:
        return self.key.rsplit("/", 1)[-1]


# --- faults -------------------------------------------------------------------------------------------------


def elsewhere(answer: Answer) -> Answer:
    if answer.status == 304:
        return answer
    length = len(answer.body)
    place = answer.headers.get("content-range", f"bytes 0-{length - 1}/{length}")
    begin, total = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", place).groups()
    place = f"bytes {int(begin) + 1}-{int(begin) + length}/{int(total) + 1}"
    return replace(answer, status=206).having(content_range=place)


# What the last segment of a key begins with, and what goes wrong with it. An object of that name need not exist: then
# its bytes are PATTERN. `whole` is what there is, and `read` makes of it what was asked for, a range or a 304. None
# closes the connection without an answer. With `-once-` only the first request for a key fails.
FAULTS: dict[str, Callable[[Answer, Callable[[Answer], Answer], str], Answer | None]] = {
    "fault-500": lambda whole, read, name: error("InternalError"),
    "fault-503-always": lambda whole, read, name: error("SlowDown"),
    "fault-503-once-": lambda whole, read, name: error("SlowDown"),
    "fault-chunked": lambda whole, read, name: replace(read(whole), chunked=True),
    "fault-cut": lambda whole, read, name: replace(read(whole), part=0.5),
    "fault-denied": lambda whole, read, name: error("AccessDenied"),
    "fault-elsewhere": lambda whole, read, name: elsewhere(read(whole)),
    "fault-headers": lambda whole, read, name: read(whole).having(
        access_control_allow_origin="https://evil.example",
        content_security_policy="default-src 'none'",
        link="<https://evil.example/style.css>; rel=preload",
        server="evil",
        set_cookie="evil=1",
        x_amz_meta_secret="secret",
    ),
    "fault-html": lambda whole, read, name: Answer(
        502, {"content-type": "text/html"}, f"<!doctype html><title>502</title>{WORDS}".encode()
    ),
    # Another region's bucket: S3 gives no Location.
    "fault-moved": lambda whole, read, name: error("PermanentRedirect", x_amz_bucket_region="eu-west-3"),
    "fault-nobucket": lambda whole, read, name: error("NoSuchBucket"),
    "fault-noetag": lambda whole, read, name: read(whole.without("etag")),
    "fault-nolastmodified": lambda whole, read, name: read(whole.without("last-modified")),
    "fault-redirect": lambda whole, read, name: error("TemporaryRedirect", location="http://127.0.0.1:1/"),
    "fault-reset": lambda whole, read, name: None,
    "fault-reset-once-": lambda whole, read, name: None,
    "fault-short": lambda whole, read, name: replace(read(whole), claim=10),
    "fault-slow-": lambda whole, read, name: replace(read(whole), delay=float(re.search(r"\d+(\.\d+)?", name)[0])),
    "fault-stall": lambda whole, read, name: replace(read(whole), part=0.5, stall=20),
    # As if it were what whoever asks has already, whatever that is.
    "fault-unchanged": lambda whole, read, name: Answer(304, {"etag": '"another"'}),
    "fault-unranged": lambda whole, read, name: error("InvalidRange"),
    "fault-weak": lambda whole, read, name: read(whole.having(etag=f"W/{whole.headers['etag']}")),
    "fault-whole": lambda whole, read, name: whole,
}


class Bucket:
    """What answers a request, without the network."""

    def __init__(self, settings: dict):
        self.settings = settings
        self.begun = format_datetime(datetime.now(UTC), usegmt=True)
        self.failed: set[str] = set()
        self.lock = threading.Lock()

    def answer(self, request: Request) -> Answer | None:
        try:
            verify(request, self.settings)
            if len(request.key.encode()) > 1024:
                raise Refusal("KeyTooLongError")
            if request.method not in ("GET", "HEAD") or not request.key:
                return self.moto(request)
            # Always all of it: its length is right for HEAD as well, and moto reads few ranges and conditions as S3
            # does. (A 304 goes with a body and without Cache-Control, a 416 without Content-Range; `*`, lists, weak
            # tags, units, two conditions at once and times that are no times it reads as something else or fails at.)
            headers = {k: v for k, v in request.headers.items() if k != "range" and not k.startswith("if-")}
            whole = self.moto(replace(request, method="GET", headers=headers))
            fault = max((start for start in FAULTS if request.name.startswith(start)), key=len, default=None)
            if fault:
                return self.fail(fault, request, whole)
            if whole.status == 404 and b"<Code>NoSuchKey<" in whole.body and self.settings["hideMissing"]:
                raise Refusal("AccessDenied")
            return read(request, whole) if "etag" in whole.headers else whole
        except Refusal as refusal:
            return refusal.answer

    def fail(self, fault: str, request: Request, whole: Answer) -> Answer | None:
        if whole.status != 200:
            tag = f'"{hashlib.md5(PATTERN).hexdigest()}"'
            headers = {"content-type": "binary/octet-stream", "etag": tag, "last-modified": self.begun}
            whole = Answer(200, headers | {"accept-ranges": "bytes"}, PATTERN)
        with self.lock:
            failed = request.key in self.failed
            self.failed.add(request.key)
        if "-once-" in fault and failed:
            return read(request, whole)
        return FAULTS[fault](whole, lambda object: read(request, object), request.name)

    def moto(self, request: Request) -> Answer:
        # By path, and with every byte encoded that could mean anything: moto takes some hosts for buckets and some
        # slashes for nothing. It does not check who asks, but wants somebody to.
        query = [(name, value) for name, value in request.query if not name.lower().startswith("x-amz-")]
        url = f"http://s3.amazonaws.com/{request.bucket}/{quote(request.key, safe='')}?{urlencode(query)}"
        credential = "Credential=test/20260101/us-east-1/s3/aws4_request"
        headers = request.headers | {"host": "s3.amazonaws.com", "authorization": f"AWS4-HMAC-SHA256 {credential}"}
        asked = AWSPreparedRequest(request.method, url, HeadersDict(headers), request.body, False)
        with self.lock:
            status, headers, body = BotocoreStubber().process_request(asked)
        body = body.encode() if isinstance(body, str) else body
        if status >= 400:
            body = body.replace(b"</Message>", f" {WORDS}</Message>".encode())
        # What else S3 does not say about an object.
        unsaid = ("content-length", "x-amz-content-sha256", "x-amz-sdk-checksum-algorithm", "x-amzn-requestid")
        headers = {name.lower(): str(value) for name, value in headers.items() if name.lower() not in unsaid}
        return Answer(status, headers, body)


def read(request: Request, whole: Answer) -> Answer:
    """What was asked for of an object: all of it, a range, or nothing because it is, or is not, what the reader has.

    Not `If-Range`, of which AWS's documentation does not speak.
    """
    tag, modified = whole.headers.get("etag", ""), time_of(whole.headers.get("last-modified"))

    def names(condition: str, weak: bool) -> bool | None:
        """Whether a condition names this object's tag; None where it was not set."""

        def bare(one: str) -> str | None:
            # S3 takes tags without quotes as well. A weak one is like no other where that matters.
            return one.removeprefix("W/").strip('"') if weak or not one.startswith("W/") else None

        if condition not in request.headers:
            return None
        tags = [one.strip() for one in request.headers[condition].split(",")]
        return tags == ["*"] or bool(bare(tag)) and bare(tag) in map(bare, tags)

    def unchanged(condition: str) -> bool | None:
        """Whether the object is no newer; None where that was not asked in a way that can be answered."""
        since = time_of(request.headers.get(condition))
        return modified <= since if since and modified else None

    # RFC 9110, 13.2.2: a time counts where there is no tag.
    match = names("if-match", weak=False)
    if match is False or match is None and unchanged("if-unmodified-since") is False:
        raise Refusal("PreconditionFailed")
    none_match = names("if-none-match", weak=True)
    if none_match or none_match is None and unchanged("if-modified-since"):
        kept = ("etag", "last-modified", "cache-control")
        return Answer(304, {name: whole.headers[name] for name in kept if name in whole.headers})

    # A range that it cannot read, several of them, and one that ends before it begins S3 takes for none.
    length = len(whole.body)
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "").strip())
    if not asked or not any(asked.groups()):
        return whole
    first, last = (int(number) if number else None for number in asked.groups())
    if first is None:
        first, last = (max(length - last, 0), length - 1) if last else (length, None)
    elif last is not None and last < first:
        return whole
    if first >= length:
        raise Refusal("InvalidRange", content_range=f"bytes */{length}")
    last = length - 1 if last is None else min(last, length - 1)
    place = f"bytes {first}-{last}/{length}"
    return replace(whole, status=206, body=whole.body[first : last + 1]).having(content_range=place)


def time_of(text: str | None) -> datetime | None:
    try:
        time = parsedate_to_datetime(text) if text else None
        return time.replace(tzinfo=UTC) if time and not time.tzinfo else time
    except ValueError:
        return None


# --- signatures ---------------------------------------------------------------------------------------------


def verify(request: Request, settings: dict) -> None:
    """Refuses what S3 would. https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html"""
    query = dict(request.query)
    header = request.headers.get("authorization")
    presigned = any(name.startswith("X-Amz-") for name in query)
    if not header and not presigned:
        raise Refusal("AccessDenied")
    if header and presigned:
        raise Refusal("InvalidArgument")
    malformed = "AuthorizationHeaderMalformed" if header else "AuthorizationQueryParametersError"

    if header:
        algorithm, _, fields = header.partition(" ")
        given = dict(one.strip().partition("=")[::2] for one in fields.split(","))
        date = request.headers.get("x-amz-date")
        token = request.headers.get("x-amz-security-token")
    else:
        given = {name.removeprefix("X-Amz-"): value for name, value in query.items()}
        algorithm, date, token = (given.get(name) for name in ("Algorithm", "Date", "Security-Token"))
    try:
        key_id, *scope = given["Credential"].split("/")
        signed, signature = given["SignedHeaders"].split(";"), given["Signature"]
        time = datetime.strptime(date or "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        expires = int(given["Expires"]) if presigned else WEEK
    except (KeyError, ValueError):
        raise Refusal(malformed) from None
    if algorithm != "AWS4-HMAC-SHA256" or not 0 < expires <= WEEK:
        raise Refusal(malformed)
    if scope != [date[:8], settings["region"], "s3", "aws4_request"]:
        raise Refusal(malformed, f"the scope '{'/'.join(scope)}' is wrong; expecting '{settings['region']}'")

    # Of a temporary key without its token S3 says that there is no such key.
    if key_id != settings["accessKeyId"] or settings["sessionToken"] and not token:
        raise Refusal("InvalidAccessKeyId")
    if token != settings["sessionToken"]:
        raise Refusal("InvalidToken")

    now = datetime.now(UTC)
    if header and abs(now - time) > SKEW:
        raise Refusal("RequestTimeTooSkewed")
    if presigned and time > now + SKEW:
        raise Refusal("AccessDenied", "Request is not yet valid")
    if presigned and now > time + timedelta(seconds=expires):
        raise Refusal("AccessDenied", "Request has expired")

    if header and "x-amz-content-sha256" not in request.headers:
        raise Refusal("InvalidRequest")
    if {name for name in request.headers if name == "host" or name.startswith("x-amz-")} - set(signed):
        raise Refusal("AccessDenied", "There were headers present in the request which were not signed")
    if signature != signature_of(request, signed, date, presigned, settings):
        raise Refusal("SignatureDoesNotMatch")
    try:
        request.path.decode()
    except UnicodeDecodeError:
        raise Refusal("InvalidURI") from None


def signature_of(request: Request, signed: list[str], date: str, presigned: bool, settings: dict) -> str:
    # S3 decodes what it gets, and encodes it anew in its own way: `'` may come as it is, but is signed as `%27`.
    url = f"http://{request.host}{quote(request.path, safe='/')}"
    headers = {name: request.headers.get(name, "") for name in signed}
    query = [(name, value) for name, value in request.query if name != "X-Amz-Signature"]
    asked = AWSRequest(request.method, url, headers=headers, data=request.body, params=query)
    asked.context["timestamp"] = date
    credentials = Credentials(settings["accessKeyId"], settings["secretAccessKey"])
    signer = (S3SigV4QueryAuth if presigned else S3SigV4Auth)(credentials, "s3", settings["region"])
    return signer.signature(signer.string_to_sign(asked, signer.canonical_request(asked)), asked)


# --- the network --------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A head and a body are two writes, and the second would wait for the first to be acknowledged.
    disable_nagle_algorithm = True
    bucket: Bucket
    asked: list[dict] = []

    def handle_request(self):
        # Not `self.path`, which has lost all but one of the slashes it begins with.
        target = self.requestline.split(" ")[1]
        absolute = re.match(r"(?i)https?://([^/?]+)(.*)", target)
        host, target = absolute.groups() if absolute else (self.headers.get("Host", ""), target)
        path, _, query = target.partition("?")
        headers = {name.lower(): ",".join(self.headers.get_all(name)) for name in self.headers} | {"host": host}
        request = Request(
            self.command,
            host,
            # S3 takes a plus for a space, as forms do.
            unquote_to_bytes(path.replace("+", " ").encode("latin-1")) or b"/",
            parse_qsl(query, keep_blank_values=True),
            headers,
            self.rfile.read(int(headers.get("content-length", 0))),
        )
        if request.path == b"/-/asked":
            return self.tell()

        answer = self.bucket.answer(request)
        self.asked.append({
            "method": request.method,
            "bucket": request.bucket,
            "key": request.key or None,
            "range": headers.get("range"),
            "ifNoneMatch": headers.get("if-none-match"),
            "status": answer and answer.status,
            "style": request.style,
        })
        if answer:
            self.send(answer)
        else:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = handle_request

    def tell(self):
        if self.command == "DELETE":
            self.asked.clear()
        self.send(Answer(200, {"content-type": "application/json"}, json.dumps(self.asked).encode()))

    def send(self, answer: Answer):
        time.sleep(answer.delay)
        self.send_response_only(answer.status)
        says = {"date": self.date_time_string(), "server": "AmazonS3", "x-amz-request-id": "4442587FB7D0A2F9"}
        if answer.chunked:
            says["transfer-encoding"] = "chunked"
        elif answer.status not in (204, 304):
            says["content-length"] = str(len(answer.body) + answer.claim)
        for header in (says | answer.headers).items():
            self.send_header(*header)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = answer.body[: int(len(answer.body) * answer.part)]
        if answer.chunked:
            pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)] + [b""]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        self.wfile.write(body)
        time.sleep(answer.stall)
        if answer.part < 1 or answer.claim:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        # Readers go away as they like.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_)


def main(folder: str, settings_file: str | None = None):
    stated = json.loads(Path(settings_file).read_text()) if settings_file else {}
    if unknown := stated.keys() - DEFAULTS:
        sys.exit(f"{settings_file}: there is no setting {', '.join(unknown)}")
    Handler.bucket = Bucket(DEFAULTS | stated)
    fill(Handler.bucket, Path(folder))
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    sys.stdin.buffer.read()


def fill(bucket: Bucket, folder: Path):
    types_file = folder / ".types.json"
    types = json.loads(types_file.read_text()) if types_file.exists() else {}
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file != types_file]
    objects = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    objects |= {key: text.encode() for key, text in bucket.settings["objects"].items()}

    def put(name: str, key: str, content: bytes = b"", stated: dict[str, str] | None = None):
        # contentType → content-type
        headers = {re.sub("[A-Z]", r"-\g<0>", field).lower(): value for field, value in (stated or {}).items()}
        path = f"/{name}/{key}".encode()
        answer = bucket.moto(Request("PUT", "", path, [], headers | {"content-length": str(len(content))}, content))
        if answer.status != 200:
            sys.exit(f"{key}: {answer.body.decode()}")

    for name in ("media", "other"):
        put(name, "")
    for key, content in objects.items():
        put("media", key, content, types.get(key))
    put("other", "secret.m4s", b"secret")


if __name__ == "__main__":
    main(*sys.argv[1:])
