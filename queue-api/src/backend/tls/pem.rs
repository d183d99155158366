//! Certificates and keys out of files; an error names the parameter, the file and what to do, and shows nothing of its content.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, Result};

/// A platform's list of CAs has a quarter of a megabyte.
const LARGEST: u64 = 4 * 1024 * 1024;

/// All certificates of a file: one at least.
pub(super) fn certificates(parameter: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(&content(parameter, file)?).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(refused(parameter, file, "holds no certificate in PEM", "give a file that begins with one")),
    }
}

/// The first private key of a file.
pub(super) fn private_key(parameter: &'static str, file: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&content(parameter, file)?).map_err(|_| {
        refused(parameter, file, "holds no private key in PEM", "give the certificate's, not encrypted")
    })
}

fn content(parameter: &'static str, file: &Path) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        refused(
            parameter,
            file,
            &format!("cannot be read: {error}"),
            "give a file that this process may read",
        )
    };
    // What is no file may have no end.
    if !fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(refused(parameter, file, "is no file", "give one in PEM"));
    }
    let mut bytes = Vec::new();
    let mut source = fs::File::open(file).map_err(unreadable)?.take(LARGEST + 1);
    source.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(refused(parameter, file, "is larger than 4 MiB", "give a file in PEM"));
    }
    Ok(bytes)
}

/// Who gives the content in place of the path does not find it in a log.
pub(super) fn refused(parameter: &'static str, file: &Path, what: &str, todo: &str) -> Error {
    let name = file.display().to_string();
    let shown =
        if name.contains("-----") { "what is given, PEM and no path,".into() } else { format!("{name:?}") };
    Error::invalid(parameter, format!("{shown} {what}: {todo}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_parameter_and_path() {
        let text = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let absent = Path::new("/nowhere/ca.pem");
        for (file, says) in [
            (absent, r#"invalid ca: "/nowhere/ca.pem" cannot be read"#),
            (Path::new("/"), r#"invalid ca: "/" is no file"#),
            (Path::new("/dev/zero"), "is no file"),
            (text, "holds no certificate in PEM"),
        ] {
            let error = certificates("ca", file).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains(says), "{error}");
        }
        let error = private_key("key", text).unwrap_err().to_string();
        assert!(error.contains("invalid key: ") && error.contains("holds no private key in PEM"), "{error}");
    }

    #[test]
    fn content_in_place_of_a_path_is_not_shown() {
        let given = Path::new("-----BEGIN PRIVATE KEY-----\nhunter2");
        let error = private_key("key", given).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
