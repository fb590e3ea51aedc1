//! URLs signed by others open the gate: a platform that signs today need not change.

#![allow(missing_docs)]

use std::process::Command;
use std::sync::LazyLock;

use http::StatusCode;
use tests::{Gate, gates, keys, now, run, tool};
use transcoder::sign::KeyPair;

static GATES: LazyLock<[Box<dyn Gate>; 2]> = LazyLock::new(|| gates(&[("assets/a/1.m4s", b"one")]));

/// `elsewhere` is what becomes of a neighbour that does not exist: 404 where the signature covers it too.
fn assert_opens(gate: &dyn Gate, url: &str, elsewhere: StatusCode) {
    let target = url.strip_prefix(gate.url()).unwrap_or_else(|| panic!("{url}"));
    assert_eq!(gate.get(target).body(), b"one", "{url}");
    assert_eq!(gate.get(&target.replacen("/1.m4s", "/2.m4s", 1)).status(), elsewhere, "{url}");
}

/// What AWS's page for openssl says, with `digest` for its `-sha1`.
fn openssl(policy: &str, digest: &str) -> (String, String) {
    let shell = |script: &str| {
        run(Command::new("bash")
            .args(["-o", "pipefail", "-c", script, "-"])
            .arg(policy)
            .arg(&keys().private)
            .arg(digest))
    };
    (
        shell(r#"printf %s "$1" | openssl base64 -A | tr -- '+=/' '-_~'"#),
        shell(r#"printf %s "$1" | openssl dgst "$3" -sign "$2" | openssl base64 -A | tr -- '+=/' '-_~'"#),
    )
}

#[test]
fn openssl_signs_a_canned_policy() {
    for gate in GATES.iter() {
        let (url, expires) = (format!("{}/assets/a/1.m4s", gate.url()), now() + 600);
        let policy = format!(
            r#"{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
        );
        let (_, signature) = openssl(&policy, "-sha1");
        assert_opens(
            &**gate,
            &format!("{url}?Expires={expires}&Signature={signature}&Key-Pair-Id={}", keys().id),
            StatusCode::FORBIDDEN,
        );
    }
}

#[test]
fn openssl_signs_a_custom_policy_with_white_space_by_either_hash() {
    for gate in GATES.iter() {
        let policy = format!(
            "{{\r\n  \"Statement\": {{\r\n    \"Resource\": \"http*://{}/assets/a/*\",\r\n    \
             \"Condition\": {{\"DateLessThan\": {{\"AWS:EpochTime\": {}}}}}\r\n  }}\r\n}}\r\n",
            gate.url().split_once("://").unwrap().1,
            now() + 600
        );
        for (digest, algorithm) in
            [("-sha1", ""), ("-sha1", "&Hash-Algorithm=SHA1"), ("-sha256", "&Hash-Algorithm=SHA256")]
        {
            let (encoded, signature) = openssl(&policy, digest);
            let url = format!("{}/assets/a/1.m4s", gate.url());
            let id = &keys().id;
            assert_opens(
                &**gate,
                &format!("{url}?Policy={encoded}&Signature={signature}&Key-Pair-Id={id}{algorithm}"),
                StatusCode::NOT_FOUND,
            );
        }
    }
}

/// Signs a URL, or the pattern if there is one, with botocore's own signer.
const BOTOCORE: &str = r"
import sys, datetime
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
url, pattern, key_id, key_file, expires = sys.argv[1:]
key = serialization.load_pem_private_key(open(key_file, 'rb').read(), None)
signer = CloudFrontSigner(key_id, lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA1()))
until = datetime.datetime.fromtimestamp(int(expires), datetime.timezone.utc)
if pattern:
    policy = signer.build_policy(pattern, until, ip_address='0.0.0.0/0')
    print(signer.generate_presigned_url(url, policy=policy))
else:
    print(signer.generate_presigned_url(url, date_less_than=until))
";

fn botocore(url: &str, pattern: &str, expires: u64) -> String {
    let keys = keys();
    let mut python = tool("python");
    python.args(["-c", BOTOCORE, url, pattern, &keys.id]).arg(&keys.private).arg(expires.to_string());
    run(&mut python).trim().to_owned()
}

#[test]
fn botocore_signs_in_both_forms() {
    for gate in GATES.iter() {
        let url = format!("{}/assets/a/1.m4s", gate.url());
        let folder = format!("{}/assets/a/*", gate.url());
        assert_opens(&**gate, &botocore(&url, "", now() + 600), StatusCode::FORBIDDEN);
        assert_opens(&**gate, &botocore(&url, &folder, now() + 600), StatusCode::NOT_FOUND);
    }
}

#[test]
fn any_pem_that_openssl_writes_is_read_or_explained() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, arguments: &str| {
        let _ = run(Command::new("openssl")
            .args(arguments.split(' '))
            .arg("-out")
            .arg(name)
            .current_dir(folder.path()));
        KeyPair::load("K1", &folder.path().join(name)).map_err(|error| error.to_string())
    };
    assert!(write("pkcs8.pem", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048").is_ok());
    assert!(write("pkcs1.pem", "rsa -traditional -in pkcs8.pem").is_ok());
    for (name, arguments, problem) in [
        ("encrypted8.pem", "pkcs8 -topk8 -in pkcs8.pem -passout pass:secret", "protected by a pass phrase"),
        (
            "encrypted1.pem",
            "rsa -traditional -in pkcs8.pem -aes128 -passout pass:secret",
            "protected by a pass phrase",
        ),
        ("public.pem", "pkey -in pkcs8.pem -pubout", "is a public key"),
        ("short.pem", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "1024 bits"),
        ("ec.pem", "ecparam -name prime256v1 -genkey -noout", "an EC key"),
        ("ec8.pem", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "no RSA private key"),
        ("key.der", "rsa -in pkcs8.pem -outform DER", "UTF-8"),
    ] {
        let error = write(name, arguments).unwrap_err();
        assert!(error.contains(problem) && !error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn our_canned_url_is_botocores_to_the_byte() {
    let url = "https://video.example/assets/a/1.m4s?v=2";
    let order = tests::Keys::order(url);
    assert_eq!(keys().sign(&order), botocore(url, "", order.expires));
}
