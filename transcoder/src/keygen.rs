//! Makes the key pair that opens the gate.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use p256::elliptic_curve::Generate;
use rand_core::OsRng;
use rsa::pkcs8::der::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

/// CloudFront takes RSA keys of this length and no other.
const RSA_BITS: usize = 2048;

/// Make a key pair: the private half signs URLs, the public half opens them at the edge.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  transcoder keygen --algorithm ecdsa --out keys

On stdout there is the TRUSTED_KEYS line for the edge, and nothing else. Its value is a JSON object: to rotate \
keys put the new pair's entry beside the old one, sign with the new key, and take the old entry out when the last \
URL that it signed has expired. The two may be of different algorithms.")]
pub struct Arguments {
    /// What the pair signs with
    #[arg(long, value_enum, default_value_t = Algorithm::Rsa)]
    algorithm: Algorithm,
    /// Folder for private.pem, public.pem and trusted-keys.json; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Arguments {
    /// Writes the pair, and has the line for the edge, which is for stdout.
    pub fn run(self) -> Result<String, KeygenError> {
        let pair = Pair::of(self.algorithm)?;
        let trusted = pair.trusted_keys();
        pair.write(&self.out)?;
        eprintln!(
            "transcoder keygen: key pair {} is in {}; keep private.pem to whoever signs",
            pair.id,
            self.out.display()
        );
        Ok(format!("TRUSTED_KEYS='{trusted}'"))
    }
}

/// What a key pair signs with: all that CloudFront knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Algorithm {
    /// RSA with 2048 bits, which every signer for CloudFront can use
    Rsa,
    /// ECDSA on P-256: URLs are 250 characters shorter; CloudFront takes it since September 2025
    Ecdsa,
}

/// A new key pair, in PEM.
#[derive(Debug)]
pub struct Pair {
    /// Made of the public key, so that one key never has two names: `K` and 13 letters or digits, as AWS's are.
    pub id: String,
    private: Zeroizing<String>,
    public: String,
}

impl Pair {
    /// Makes one for RSA, from the system's randomness.
    pub fn generate() -> Result<Self, KeygenError> {
        Self::of(Algorithm::Rsa)
    }

    /// Makes one, from the system's randomness.
    pub fn of(algorithm: Algorithm) -> Result<Self, KeygenError> {
        match algorithm {
            Algorithm::Rsa => Self::rsa(),
            Algorithm::Ecdsa => Self::ecdsa(),
        }
    }

    fn rsa() -> Result<Self, KeygenError> {
        use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
        let key = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(KeygenError::key)?;
        let public = key.to_public_key();
        Ok(Self {
            id: key_pair_id(public.to_public_key_der().map_err(KeygenError::key)?.as_bytes()),
            private: key.to_pkcs8_pem(LineEnding::LF).map_err(KeygenError::key)?,
            public: public.to_public_key_pem(LineEnding::LF).map_err(KeygenError::key)?,
        })
    }

    fn ecdsa() -> Result<Self, KeygenError> {
        use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
        let key = p256::SecretKey::try_generate().map_err(KeygenError::key)?;
        let public = key.public_key();
        Ok(Self {
            id: key_pair_id(public.to_public_key_der().map_err(KeygenError::key)?.as_bytes()),
            private: key.to_pkcs8_pem(LineEnding::LF).map_err(KeygenError::key)?,
            public: public.to_public_key_pem(LineEnding::LF).map_err(KeygenError::key)?,
        })
    }

    /// The value of the edge's `TRUSTED_KEYS` that trusts this pair, and no other.
    #[must_use]
    pub fn trusted_keys(&self) -> String {
        serde_json::json!({ self.id.as_str(): self.public }).to_string()
    }

    /// Writes `private.pem`, readable by its owner only, `public.pem` and `trusted-keys.json` into `folder`: all
    /// or nothing. What is there already is never overwritten: not the files of a pair whose private half was put
    /// somewhere safer, either.
    pub fn write(&self, folder: &Path) -> Result<(), KeygenError> {
        fs::create_dir_all(folder).map_err(|error| KeygenError::file(folder, &error))?;
        let trusted = self.trusted_keys();
        let mut made: Vec<PathBuf> = Vec::new();
        for (name, text, mode) in [
            ("private.pem", &*self.private, 0o600),
            ("public.pem", &self.public, 0o644),
            ("trusted-keys.json", &trusted, 0o644),
        ] {
            let path = folder.join(name);
            let written = create(&path, mode).and_then(|mut file| {
                made.push(path.clone());
                file.write_all(text.as_bytes())
            });
            if let Err(error) = written {
                // Half a pair opens nothing, and would be in the way of the next attempt.
                for path in made {
                    let _ = fs::remove_file(path);
                }
                return Err(match error.kind() {
                    io::ErrorKind::AlreadyExists => KeygenError::Exists(path),
                    _ => KeygenError::file(&path, &error),
                });
            }
        }
        Ok(())
    }
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "who may read a file is said in another way there"))]
fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(path)
}

fn key_pair_id(der: &[u8]) -> String {
    const ALPHABET: [u8; 32] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letters = Sha256::digest(der);
    let letters = letters.iter().take(13).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    std::iter::once('K').chain(letters).collect()
}

/// Why there is no new key pair.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeygenError {
    /// There is one already.
    #[error("{} is there already, and URLs may be signed with that pair; choose another folder", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The key cannot be made.
    #[error("cannot make a key: {0}")]
    Key(String),
}

impl KeygenError {
    fn key(problem: impl std::fmt::Display) -> Self {
        Self::Key(problem.to_string())
    }

    fn file(path: &Path, problem: &io::Error) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use edge::KeyGroup;
    use edge::crypto::{self, TrustedKey};

    use super::*;

    #[test]
    fn a_pair_is_one_that_the_edge_trusts_and_that_signs() {
        for (algorithm, trusted) in
            [(Algorithm::Rsa, crypto::Algorithm::Rsa), (Algorithm::Ecdsa, crypto::Algorithm::P256)]
        {
            let pair = Pair::of(algorithm).unwrap();
            assert!(pair.id.len() == 14 && pair.id.starts_with('K'), "{}", pair.id);
            assert!(KeyGroup::parse(&pair.trusted_keys()).is_ok());
            assert_eq!(TrustedKey::parse(&pair.id, &pair.public).unwrap().algorithm(), trusted);
            assert!(crate::sign::KeyPair::parse(&pair.id, &pair.private).is_ok());
        }
    }

    #[test]
    fn a_private_key_is_its_owners_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("made/on/the/way");
        let pair = Pair::of(Algorithm::Ecdsa).unwrap();
        pair.write(&keys).unwrap();
        let private = keys.join("private.pem");
        assert!(fs::read_to_string(&private).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        #[cfg(unix)]
        {
            let metadata = fs::metadata(&private).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
        }
        let another = Pair::of(Algorithm::Ecdsa).unwrap();
        assert_eq!(another.write(&keys), Err(KeygenError::Exists(private)));
        assert_eq!(fs::read_to_string(keys.join("public.pem")).unwrap(), pair.public);
    }

    #[test]
    fn a_pair_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        let pair = Pair::generate().unwrap();
        for (there, problem) in [
            ("trusted-keys.json", "is there already"),
            ("public.pem", "is there already"),
            ("private.pem", "already"),
        ] {
            fs::write(folder.path().join(there), "of another pair").unwrap();
            let error = pair.write(folder.path()).unwrap_err().to_string();
            assert!(error.contains(there) && error.contains(problem), "{error}");
            assert_eq!(names(), [there]);
            assert_eq!(fs::read_to_string(folder.path().join(there)).unwrap(), "of another pair");
            fs::remove_file(folder.path().join(there)).unwrap();
        }
        pair.write(folder.path()).unwrap();
        assert_eq!(names(), ["private.pem", "public.pem", "trusted-keys.json"]);
        #[cfg(unix)]
        {
            let metadata = fs::metadata(folder.path().join("private.pem")).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
        }
    }
}
