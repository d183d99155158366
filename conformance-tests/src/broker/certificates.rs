//! Certificates for a test, made anew by the command `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::error::{BrokerError, Result};

const PROGRAM: &str = "openssl";

/// What the command wants to have said of a CA.
const CONFIGURATION: &str = "[ca]\ndefault_ca = ours\n\
    [ours]\nnew_certs_dir = .\ndatabase = index\nserial = serial\ndefault_md = sha256\npolicy = any\nunique_subject = no\n\
    [any]\ncommonName = supplied\n\
    [req]\ndistinguished_name = nothing\nx509_extensions = root\n[nothing]\n\
    [root]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n";

/// A CA of a test's own, and what it signs, in a directory that goes with the value.
#[derive(Debug)]
pub struct CertificateAuthority {
    dir: TempDir,
}

/// A certificate and its private key: two files in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The file with the certificate.
    pub cert: PathBuf,
    /// The file with its private key.
    pub key: PathBuf,
}

/// How a private broker encrypts, at a port beside its other one.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// What it shows.
    pub certificate: Certificate,
    /// Where this is a CA's file, every client must show a certificate which that CA has signed.
    pub clients: Option<PathBuf>,
}

impl CertificateAuthority {
    /// Makes one. 50 ms.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("polyqueue-ca-").tempdir();
        let authority = Self { dir: dir.map_err(BrokerError::io("making a directory"))? };
        authority.write("configuration", CONFIGURATION)?;
        authority.write("index", "")?;
        authority.write("serial", "01\n")?;
        authority.openssl(
            "req -x509 -config configuration -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
             -keyout ca.key -out ca.pem -days 2 -subj /CN=polyqueue-test-ca",
        )?;
        Ok(authority)
    }

    /// The file with its own certificate.
    pub fn cert(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for these names, as `DNS:localhost,IP:127.0.0.1`, that is valid for two days.
    pub fn sign(&self, file: &str, names: &str) -> Result<Certificate> {
        self.issue(file, names, "-days 2")
    }

    /// The same, which expired long ago.
    pub fn sign_expired(&self, file: &str, names: &str) -> Result<Certificate> {
        self.issue(file, names, "-startdate 20200101000000Z -enddate 20200103000000Z")
    }

    fn issue(&self, file: &str, names: &str, validity: &str) -> Result<Certificate> {
        self.write("names", &format!("subjectAltName = {names}\n"))?;
        self.openssl(&format!(
            "req -config configuration -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
             -keyout {file}.key -out request -subj /CN={file}"
        ))?;
        self.openssl(&format!(
            "ca -batch -notext -config configuration -cert ca.pem -keyfile ca.key -extfile names -in request \
             -out {file}.pem {validity}"
        ))?;
        let path = |end| self.dir.path().join(format!("{file}.{end}"));
        Ok(Certificate { cert: path("pem"), key: path("key") })
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.dir.path().join(file), text)
            .map_err(BrokerError::io(format!("writing {file} of a CA")))
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        run(self.dir.path(), arguments)
    }
}

fn run(dir: &Path, arguments: &str) -> Result<()> {
    let ran = Command::new(PROGRAM)
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => BrokerError::Missing { program: PROGRAM },
            _ => BrokerError::io(format!("running {PROGRAM}"))(error),
        })?;
    match ran.status.success() {
        true => Ok(()),
        false => {
            let answer = format!("{arguments}: {}", String::from_utf8_lossy(&ran.stderr).trim());
            Err(BrokerError::Refused { broker: PROGRAM, answer })
        }
    }
}
