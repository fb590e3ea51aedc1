//! What the command line prints, and what it must not.

use std::fs::File;
use std::process::{Command, Stdio};

fn transcoder(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
    command.args(arguments).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

#[test]
fn a_key_in_the_environment_is_never_shown() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEsecret\n-----END PRIVATE KEY-----\n";
    let sign = ["sign", "https://v.example/a.jpg", "--key-pair-id", "K1", "--expires", "2h"];
    for arguments in [&["sign", "--help"][..], &["sign", "-h"], &sign] {
        let output = transcoder(arguments).env("PRIVATE_KEY", key).output().unwrap();
        for text in [output.stdout, output.stderr] {
            assert!(!String::from_utf8(text).unwrap().contains("MIIEsecret"), "{arguments:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("keys");
    let output = transcoder(&["keygen", "--out", folder.to_str().unwrap()])
        .stdout(File::create("/dev/full").unwrap())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.lines().last().unwrap().starts_with("transcoder: cannot write to standard output"),
        "{stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn every_command_says_what_it_does() {
    for command in ["encode", "serve", "doctor", "retry", "lint", "sign", "keygen", "rollback", "gc"] {
        let output = transcoder(&[command, "--help"]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
