"""MediaConvert for tests: `python tests/tools/mediaconvert.py [settings.json]`

What it answers is what AWS's own model of the API (botocore's) says; every job that it is asked for is checked against
that model, names and types and values. What it makes is made by ffmpeg of the object in S3, which is moto's, in the same
process, as is SQS; it lies where, and is called as, MediaConvert has it: `Destination` and `NameModifier`.

Prints one line, `{"url": …, "s3": …, "queue": …}`, once it answers, and ends when its stdin closes. The buckets `work` and
`media` are there, and the queue gets what EventBridge would send to it; with "events" in the settings, that URL gets it
instead. "ffmpeg" names another ffmpeg.

`GET /-/jobs` lists the jobs as they were asked for, in the names of the AWS CLI, each with its `Id`, `Status` and whether it
was paid for. `POST /-/faults` says what goes wrong next, as a list of FAULTS, one for each job, and those that are answers
for each request of their kind.
"""

import json
import logging
import random
import re
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import boto3
import botocore.session
from botocore.validate import ParamValidator
from moto.server import ThreadedMotoServer

VERSION = "/2017-08-29"
MODEL = botocore.session.get_session().get_service_model("mediaconvert")
ACCOUNT, REGION = "111122223333", "us-east-1"
DEFAULT_QUEUE = f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:queues/Default"
# https://docs.aws.amazon.com/mediaconvert/latest/ug/mediaconvert_error_codes.html
MESSAGES = {
    1010: "Unable to open input file",
    1040: "Example error message",
    1041: "Acceleration is not supported for this job",
    1999: "Unknown error",
    3450: "S3 Write Error: Access Denied",
}
# `429` and `500` answer the next request of any kind; a number of MESSAGES ends a job so; `hang` never ends; `lost` sends no
# events, `twice` sends each twice, `shuffled` the last one first; `away` answers CreateJob with nothing after doing it.
FAULTS = {"429", "500", "403", *map(str, MESSAGES), "hang", "lost", "twice", "shuffled", "away"}

SETTINGS = json.loads(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else {}
LOCK = threading.RLock()
JOBS: dict[str, dict] = {}
TOKENS: dict[str, tuple[float, str]] = {}
FAULTS_TO_COME: list[str] = []


# --- what AWS's model says ----------------------------------------------------------------------------------


def from_wire(shape, value, path="job"):
    """The same in the names of the AWS CLI. What the model does not know is refused, as are values that are not listed."""
    if shape.type_name == "structure":
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        unknown = value.keys() - names.keys()
        if unknown:
            raise ValueError(f"{path}: {', '.join(sorted(unknown))} is not known")
        members = ((names[key], value[key]) for key in value)
        return {name: from_wire(shape.members[name], it, f"{path}.{name}") for name, it in members}
    if shape.type_name == "list":
        return [from_wire(shape.member, it, f"{path}[{i}]") for i, it in enumerate(value)]
    if shape.type_name == "map":
        return {key: from_wire(shape.value, it, f"{path}.{key}") for key, it in value.items()}
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        raise ValueError(f"{path}: {value} is none of {', '.join(enum)}")
    limits = shape.metadata
    if shape.type_name == "integer" and not limits.get("min", value) <= value <= limits.get("max", value):
        raise ValueError(f"{path}: {value} is not in {limits}")
    pattern = limits.get("pattern")
    if shape.type_name == "string" and pattern and not re.search(pattern, value):
        raise ValueError(f"{path}: {value} is not {pattern}")
    return value


def checked(body: dict) -> dict:
    shape = MODEL.operation_model("CreateJob").input_shape
    job = from_wire(shape, body)
    report = ParamValidator().validate(job, shape)
    if report.has_errors():
        raise ValueError(report.generate_report())
    if len(job.get("ClientRequestToken", "")) > 64:
        raise ValueError("ClientRequestToken has more than 64 characters")
    # What the model does not say, and the service does.
    for group in job["Settings"]["OutputGroups"]:
        kind = group["OutputGroupSettings"]["Type"]
        container = {"CMAF_GROUP_SETTINGS": "CMFC", "HLS_GROUP_SETTINGS": "M3U8"}[kind]
        modifiers = [output["NameModifier"] for output in group["Outputs"]]
        if len(set(modifiers)) < len(modifiers):
            raise ValueError("two outputs have one name")
        for output in group["Outputs"]:
            if output["ContainerSettings"]["Container"] != container:
                raise ValueError(f"{kind} takes {container}")
            if kind == "CMAF_GROUP_SETTINGS" and "VideoDescription" in output and "AudioDescriptions" in output:
                raise ValueError("CMAF has picture and sound apart")
    return job


def to_wire(shape, value):
    if shape.type_name == "structure":
        members = ((name, member) for name, member in shape.members.items() if name in value)
        return {member.serialization.get("name", name): to_wire(member, value[name]) for name, member in members}
    if shape.type_name == "list":
        return [to_wire(shape.member, it) for it in value]
    if shape.type_name == "map":
        return {key: to_wire(shape.value, it) for key, it in value.items()}
    return value


def shown(job: dict) -> dict:
    known = {name: value for name, value in job.items() if name in MODEL.shape_for("Job").members}
    return to_wire(MODEL.shape_for("Job"), known)


# --- the work -----------------------------------------------------------------------------------------------


def client(name: str):
    return boto3.client(
        name, endpoint_url=S3, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


def split(uri: str) -> tuple[str, str]:
    return re.fullmatch(r"s3://([^/]+)/(.+)", uri).groups()


def event(job: dict, status: str, **detail) -> dict:
    now = time.time()
    arn = f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:jobs/{job['Id']}"
    return {
        "version": "0",
        "id": "1234abcd-12ab-34cd-56ef-1234567890ab",
        "detail-type": "MediaConvert Job State Change",
        "source": "aws.mediaconvert",
        "account": ACCOUNT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "region": REGION,
        "resources": [arn],
        "detail": {
            "timestamp": int(now * 1000),
            "accountId": ACCOUNT,
            "queue": job["Queue"],
            "jobId": job["Id"],
            "status": status,
            "userMetadata": job.get("UserMetadata", {}),
            **detail,
        },
    }


def send(events: list[dict]):
    for body in map(json.dumps, events):
        if url := SETTINGS.get("events"):
            request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
            try:
                urllib.request.urlopen(request, timeout=5).close()
            except OSError as error:
                print(f"an event was not taken: {error}", file=sys.stderr)
        else:
            client("sqs").send_message(QueueUrl=QUEUE, MessageBody=body)


def run(job: dict):
    fault = job["Fault"]
    events = [event(job, "PROGRESSING")]
    if fault not in ("lost", "shuffled"):
        send(events * (2 if fault == "twice" else 1))
    job["Status"], job["CurrentPhase"], job["JobPercentComplete"] = "PROGRESSING", "PROBING", 0
    if fault == "hang":
        return
    try:
        if fault and fault.isdigit() and int(fault) in MESSAGES:
            raise Failed(int(fault), MESSAGES[int(fault)])
        with tempfile.TemporaryDirectory() as folder:
            encode(job, Path(folder))
    except Failed as failed:
        code, message = failed.args
        outcome = "ERROR", {"errorCode": code, "errorMessage": message}
    except Exception as error:  # noqa: BLE001: what ends this thread would end the job in silence
        outcome = "ERROR", {"errorCode": 1999, "errorMessage": str(error)}
    else:
        outcome = "COMPLETE", {"outputGroupDetails": [{"type": "CMAF_GROUP", "outputDetails": []}]}
    status, detail = outcome
    with LOCK:
        if job["Status"] == "CANCELED":
            return
        if status == "ERROR":
            job["ErrorCode"], job["ErrorMessage"] = detail["errorCode"], detail["errorMessage"]
        else:
            job["JobPercentComplete"], job["Paid"] = 100, True
        job["Status"] = status
    last = event(job, status, **detail)
    if fault == "shuffled":
        send([last, *events])
    elif fault != "lost":
        send([last] * (2 if fault == "twice" else 1))


class Failed(Exception):
    pass


def encode(job: dict, folder: Path):
    settings = job["Settings"]
    source = folder / "source"
    s3 = client("s3")
    bucket, key = split(settings["Inputs"][0]["FileInput"])
    try:
        s3.download_file(bucket, key, str(source))
    except Exception as error:
        raise Failed(1010, f"Unable to open input file [{bucket}/{key}]: {error}") from error
    selectors = settings["Inputs"][0].get("AudioSelectors", {})
    outputs = [(group, output) for group in settings["OutputGroups"] for output in group["Outputs"]]
    for i, (group, output) in enumerate(outputs):
        if job["Status"] == "CANCELED":
            return
        job["CurrentPhase"], job["JobPercentComplete"] = "TRANSCODING", 100 * i // len(outputs)
        kind = group["OutputGroupSettings"]["Type"]
        is_cmaf = kind == "CMAF_GROUP_SETTINGS"
        place = group["OutputGroupSettings"]["CmafGroupSettings" if is_cmaf else "HlsGroupSettings"]
        bucket, base = split(place["Destination"])
        name = base.rsplit("/", 1)[-1] + output["NameModifier"]
        line = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(source)]
        line[0] = SETTINGS.get("ffmpeg", line[0])
        if video := output.get("VideoDescription"):
            line += pictures(video)
        for sound in output.get("AudioDescriptions", []):
            line += spoken(sound, selectors)
        track = folder / name
        if is_cmaf:
            # With what its encoder needs to settle in an edit list, as CMAF has it.
            file = f"{name}.cmfv" if video else f"{name}.cmfa"
            line += ["-movflags", "frag_keyframe+empty_moov+default_base_moof+delay_moov+skip_trailer", "-f", "mp4"]
            line += [] if video else ["-frag_duration", "2000000"]
        else:
            file = f"{name}.ts"
            # All tracks are on one clock, which begins at 10 s.
            line += ["-avoid_negative_ts", "disabled", "-output_ts_offset", "10", "-muxdelay", "0", "-f", "mpegts"]
        done = subprocess.run([*line, str(track)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(1040, done.stderr.strip().splitlines()[-1] if done.stderr else "it ended")
        segments = [(file, track.read_bytes())]
        if place["SegmentControl"] == "SEGMENTED_FILES":
            bytes_ = track.read_bytes()
            half = len(bytes_) // 2 // 188 * 188
            suffix = Path(file).suffix
            segments = [(f"{name}_{n:09}{suffix}", part) for n, part in enumerate((bytes_[:half], bytes_[half:]), 1)]
        lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:6", "#EXT-X-PLAYLIST-TYPE:VOD"]
        for segment, part in segments:
            s3.put_object(Bucket=bucket, Key=f"{base.rsplit('/', 1)[0]}/{segment}", Body=part)
            lines += ["#EXTINF:6,", segment]
        lines += ["#EXT-X-ENDLIST", ""]
        s3.put_object(Bucket=bucket, Key=f"{base}{output['NameModifier']}.m3u8", Body="\n".join(lines).encode())
    job["CurrentPhase"] = "UPLOADING"


def pictures(video: dict) -> list[str]:
    settings = next(value for key, value in video["CodecSettings"].items() if key != "Codec")
    codec = {"H_264": "libx264", "H_265": "libx265", "AV1": "libsvtav1"}[video["CodecSettings"]["Codec"]]
    group = int(settings["GopSize"])
    rate = f"{settings['FramerateNumerator']}/{settings['FramerateDenominator']}"
    kbps = settings["MaxBitrate"] // 1000
    line = ["-map", "0:v:0", "-c:v", codec, "-r", rate, "-g", str(group), "-pix_fmt", "yuv420p"]
    line += ["-vf", f"scale={video['Width']}:{video['Height']},setsar=1"]
    line += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    if codec == "libx264":
        line += ["-preset", "veryfast", "-profile:v", "high", "-keyint_min", str(group), "-sc_threshold", "0"]
        line += ["-crf", "24", "-maxrate", f"{kbps}k", "-bufsize", f"{settings['HrdBufferSize'] // 1000}k"]
        line += ["-bf", str(settings["NumberBFramesBetweenReferenceFrames"]), "-flags", "+cgop"]
    elif codec == "libx265":
        line += ["-preset", "ultrafast", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps}k", "-x265-params"]
        line += [f"keyint={group}:min-keyint={group}:scenecut=0:open-gop=0:log-level=error"]
        line += ["-tag:v", "hvc1"]
    else:
        line += ["-preset", "12", "-crf", "40", "-svtav1-params", "scd=0"]
    return line


def spoken(sound: dict, selectors: dict) -> list[str]:
    track = selectors[sound["AudioSourceName"]]["Tracks"][0]
    settings = sound["CodecSettings"]["AacSettings"]
    channels = {"CODING_MODE_2_0": 2, "CODING_MODE_5_1": 6}[settings["CodingMode"]]
    rate = settings["SampleRate"]
    return [
        *("-map", f"0:a:{track - 1}", "-c:a", "aac", "-b:a", str(settings["Bitrate"])),
        *("-ac", str(channels), "-ar", str(rate)),
    ]


# --- the API ------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: object = None, error: str | None = None):
        if error:
            body = {"message": f"{error}: by request of the test" if body is None else body}
        text = json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if error:
            self.send_header("x-amzn-errortype", error)
        self.end_headers()
        self.wfile.write(text)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def is_refused(self) -> bool:
        answers = {
            "429": (429, "TooManyRequestsException"),
            "500": (500, "InternalServerErrorException"),
            "403": (403, "ForbiddenException"),
        }
        with LOCK:
            if not FAULTS_TO_COME or FAULTS_TO_COME[0] not in answers:
                return False
            status, name = answers[FAULTS_TO_COME.pop(0)]
        self.answer(status, error=name)
        return True

    def do_GET(self):
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        if path == "/-/jobs":
            return self.answer(200, list(JOBS.values()))
        if not self.is_signed() or self.is_refused():
            return None
        if path == f"{VERSION}/search":
            wanted = query.get("inputFile", "")
            found = [
                job
                for job in reversed(list(JOBS.values()))
                if any(wanted in it["FileInput"] for it in job["Settings"]["Inputs"])
            ]
            return self.answer(200, {"jobs": [shown(job) for job in found[: int(query.get("maxResults", 20))]]})
        job = JOBS.get(path.removeprefix(f"{VERSION}/jobs/"))
        if job is None:
            return self.answer(404, "no such job", error="NotFoundException")
        return self.answer(200, {"job": shown(job)})

    def do_POST(self):
        body = self.body()
        if self.path == "/-/faults":
            faults = json.loads(body)
            assert set(faults) <= FAULTS, faults
            FAULTS_TO_COME[:] = faults
            return self.answer(200)
        if not self.is_signed() or self.is_refused():
            return None
        if self.path != f"{VERSION}/jobs":
            return self.answer(404, "no such path", error="NotFoundException")
        try:
            asked = checked(json.loads(body))
        except Exception as error:  # noqa: BLE001: whatever is wrong with it is the caller's to read
            print(f"CreateJob: {error}", file=sys.stderr)
            return self.answer(400, str(error), error="BadRequestException")
        with LOCK:
            token = asked.get("ClientRequestToken", "")
            begun, known = TOKENS.get(token, (0, ""))
            if token and time.monotonic() - begun < 60:
                return self.answer(201, {"job": shown(JOBS[known])})
            # 1515368087458-qnoxtd
            letters = "".join(random.choices(string.ascii_lowercase + string.digits, k=6))
            job_id = f"{int(time.time() * 1000)}-{letters}"
            fault = FAULTS_TO_COME.pop(0) if FAULTS_TO_COME else asked.get("UserMetadata", {}).get("fault")
            job = {"Queue": DEFAULT_QUEUE} | asked | {"Id": job_id, "Status": "SUBMITTED", "Fault": fault, "Paid": False}
            if "queues/" not in job["Queue"]:
                job["Queue"] = DEFAULT_QUEUE.replace("Default", job["Queue"])
            JOBS[job_id] = job
            if token:
                TOKENS[token] = (time.monotonic(), job_id)
        threading.Thread(target=run, args=[job], daemon=True).start()
        if fault == "away":
            self.close_connection = True
            return None
        return self.answer(201, {"job": shown(job)})

    def do_DELETE(self):
        if not self.is_signed() or self.is_refused():
            return None
        job = JOBS.get(self.path.removeprefix(f"{VERSION}/jobs/"))
        if job is None:
            return self.answer(404, "no such job", error="NotFoundException")
        with LOCK:
            if job["Status"] in ("COMPLETE", "ERROR", "CANCELED"):
                return self.answer(409, f"it is {job['Status']}", error="ConflictException")
            job["Status"] = "CANCELED"
        send([event(job, "CANCELED")])
        return self.answer(202)

    def is_signed(self) -> bool:
        if f"/{REGION}/mediaconvert/aws4_request" in self.headers.get("authorization", ""):
            return True
        self.answer(403, error="ForbiddenException")
        return False


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    S3 = "http://{}:{}".format(*moto.get_host_and_port())
    for bucket in ("work", "media", "uploads"):
        client("s3").create_bucket(Bucket=bucket)
    QUEUE = client("sqs").create_queue(QueueName="events")["QueueUrl"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"url": url, "s3": S3, "queue": QUEUE}), flush=True)
    sys.stdin.read()
