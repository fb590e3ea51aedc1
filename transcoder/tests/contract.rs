//! The API keeps to what it says of itself, as public tools see it: a validator, and a client that asks for everything in
//! every way it can think of (schemathesis).

mod harness;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::Studio;
use reqwest::Client;
use serde_json::{Value, json};

const TOKEN: &str = "a token for tests only";

/// How long a video may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a running service says of itself has to be an `OpenAPI` document, and each example what its schema says.
const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

document = json.load(open(sys.argv[1]))
OpenAPIV31SpecValidator(document).validate()
for path, item in document["paths"].items():
    for method, operation in item.items():
        where = method.upper() + " " + path
        for said in ("summary", "description", "operationId", "tags"):
            assert operation.get(said), (where, said)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (where, parameter["name"])
        answers = [(where + " " + status, answer) for status, answer in operation["responses"].items()]
        for where, answer in [*answers, (where, operation.get("requestBody", {}))]:
            for kind, content in answer.get("content", {}).items():
                if content["schema"].get("format") == "binary":
                    continue
                schema = {**content["schema"], "components": document["components"]}
                checker = Draft202012Validator.FORMAT_CHECKER
                errors = list(Draft202012Validator(schema, format_checker=checker).iter_errors(content["example"]))
                assert not errors, (where, kind, errors)
                print(where, kind)
"#;

/// A service with a token, and something of everything in it.
struct Service {
    process: Child,
    url: String,
    client: Client,
}

impl Service {
    fn start(studio: &Studio) -> Self {
        let path = |name: &str| studio.path(name).to_str().unwrap().to_owned();
        fs::create_dir_all(path("uploads")).unwrap();
        let log = path("serve.log");
        let key = path("private_key.pem");
        harness::printed(Command::new("openssl").args(["genrsa", "-out", &key, "2048"]));
        let mut process = Command::new(env!("CARGO_BIN_EXE_transcoder"))
            .args(["serve", "--uploads", &path("uploads"), "--to", &path("media"), "--data", &path("data")])
            .args(["--listen", "127.0.0.1:0", "--attempts", "1", "--max-upload", "1MB"])
            .args(["--edge", "https://video.example", "--key-pair-id", "K1", "--private-key", &key])
            .env("REELGATE_API_TOKEN", TOKEN)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            let (_, rest) =
                line.unwrap().split_once("serving http://").map(|(a, b)| (a.len(), b.to_owned()))?;
            Some(format!("http://{}", rest.split_whitespace().next().unwrap()))
        });
        std::thread::spawn(move || {
            let mut log = File::create(log).unwrap();
            for line in lines.map_while(Result::ok) {
                let _ = std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes());
            }
        });
        let client = Client::builder().no_proxy().build().unwrap();
        Self { process, url: url.expect("it says where it serves"), client }
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(TOKEN);
        let text = request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Uploads something, and waits until nothing more happens to it. Its job.
    async fn upload(&self, name: &str, bytes: Vec<u8>) -> Value {
        let request = self.client.put(format!("{}/v1/uploads/{name}", self.url)).bearer_auth(TOKEN);
        let answer =
            request.body(bytes).send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        let upload: Value = serde_json::from_str(&answer).unwrap();
        let id = upload["job"]["id"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        loop {
            let job = self.get(&format!("/v1/jobs/{id}")).await;
            if ["done", "failed"].contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "{job}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_description_is_sound_and_every_example_is_what_it_says() {
    let studio = Studio::new();
    let path = studio.path("openapi.json");
    fs::write(&path, transcoder::http::openapi().to_string()).unwrap();
    let checked = harness::printed(harness::tool("python").args(["-c", VALIDATE]).arg(&path));
    assert!(checked.lines().count() > 100, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_the_answer_is_one_of_those_described() {
    let studio = Studio::new();
    let service = Service::start(&studio);
    let clip = studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=320x180:d=2 SOUND -c:v libx264");
    let done = service.upload("lesson-1.mp4", fs::read(clip).unwrap()).await;
    assert_eq!((&done["state"], &done["asset"]), (&json!("done"), &json!("lesson-1")), "{done}");
    assert_eq!(service.upload("broken.mp4", b"no video".to_vec()).await["state"], "failed");

    // Its examples are what there is, so that something is found by them.
    let document = service.get("/openapi.json").await.to_string();
    let document = document
        .replace("298c3ab86b905f117385fc1c428cc3c2", done["id"].as_str().unwrap())
        .replace("20261125t145042z-0496fd7c", done["generation"].as_str().unwrap())
        .replace("course/lesson-1.mp4", "lesson-1.mp4")
        .replace("course-lesson-1", "lesson-1");
    let path = studio.path("openapi.json");
    fs::write(&path, document).unwrap();

    let mut successes = BTreeMap::new();
    // What removes things comes last; streams do not end.
    for (selected, turn) in [("--exclude-method", "first"), ("--include-method", "then")] {
        let report = studio.path(&format!("{turn}.har"));
        let output = harness::tool("python")
            .args(["-m", "schemathesis.cli", "run", path.to_str().unwrap(), "--url", &service.url])
            .args(["--header", &format!("Authorization: Bearer {TOKEN}"), selected, "DELETE"])
            .args(["--exclude-operation-id", "followJobs", "--exclude-operation-id", "followJob"])
            .args([
                "--phases",
                "examples,coverage,fuzzing",
                "--max-examples",
                "40",
                "--generation-deterministic",
            ])
            // What is described can be asked for, and is refused all the same where nothing lies there.
            .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
            .args(["--request-timeout", "20", "--warnings", "off", "--no-color"])
            .args(["--report", "har", "--report-har-path", report.to_str().unwrap()])
            .current_dir(studio.path(""))
            .output()
            .expect("the tests need schemathesis: run `make setup`");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let asked: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        for entry in asked["log"]["entries"].as_array().unwrap() {
            let status = entry["response"]["status"].as_u64().unwrap();
            assert!(status < 500, "{entry}");
            let url = entry["request"]["url"].as_str().unwrap().strip_prefix(&service.url).unwrap();
            let path = url.split('?').next().unwrap();
            let route = [done["id"].as_str().unwrap(), "lesson-1.mp4", "lesson-1"]
                .iter()
                .fold(path.to_owned(), |path, known| path.replace(known, "*"));
            let operation = format!("{} {route}", entry["request"]["method"].as_str().unwrap());
            *successes.entry(operation).or_insert(0) += u32::from(status < 300);
        }
    }
    for operation in [
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /v1/assets",
        "GET /v1/assets/*",
        "GET /v1/assets/*/poster",
        "POST /v1/assets/*/rollback",
        "DELETE /v1/assets/*",
        "POST /v1/events",
        "GET /v1/jobs",
        "POST /v1/jobs",
        "GET /v1/jobs/*",
        "POST /v1/playback",
        "GET /v1/studio",
        "HEAD /v1/uploads/*",
        "PUT /v1/uploads/*",
    ] {
        assert!(successes.get(operation).is_some_and(|count| *count > 0), "{operation}: {successes:#?}");
    }
}
