//! Which side refused which, and why, in words for whoever must do something.

use std::io;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error};

use super::refusal::TlsRefusal;

/// The same of the handshake: a server with which no encryption comes about is refused, too.
pub(super) fn of_the_handshake(error: io::Error, name: &ServerName<'_>, has_certificate: bool) -> io::Error {
    let error = sorted(error, name, has_certificate);
    let tls = error.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
    let said = match tls {
        Some(Error::InvalidMessage(_)) => {
            "what answers there does not speak TLS: give the port where the server does".into()
        }
        Some(other) => format!("no encryption comes about: {other}"),
        None => return error,
    };
    io::Error::new(error.kind(), TlsRefusal(said))
}

/// The same error, or a [`TlsRefusal`] where it is one.
pub(super) fn sorted(error: io::Error, name: &ServerName<'_>, has_certificate: bool) -> io::Error {
    let tls = error.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
    let said = match tls {
        Some(Error::InvalidCertificate(fault)) => Some(of_the_server(fault, name)),
        Some(Error::AlertReceived(alert)) => of_us(*alert, has_certificate),
        _ => None,
    };
    match said {
        Some(said) => io::Error::new(error.kind(), TlsRefusal(said)),
        None => error,
    }
}

/// We refuse the server.
fn of_the_server(fault: &CertificateError, name: &ServerName<'_>) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, Revoked, UnknownIssuer,
    };
    let name = name.to_str();
    match fault {
        // The latter where a CA that is trusted here has the same name.
        UnknownIssuer | BadSignature => {
            "the server's certificate is signed by no CA that is trusted here: name its CA's file by ca"
                .into()
        }
        NotValidForName | NotValidForNameContext { .. } => format!(
            "the server's certificate is not for {name}: connect by a name that it is for, or say that name by server_name"
        ),
        Expired | ExpiredContext { .. } => {
            "the server's certificate has expired: renew it there, or set this machine's clock".into()
        }
        NotValidYet | NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: set this machine's clock, or wait".into()
        }
        Revoked => "the server's certificate is revoked: give the server another".into(),
        other => format!("the server's certificate is not accepted: {other}"),
    }
}

/// The server refuses us.
fn of_us(alert: AlertDescription, has_certificate: bool) -> Option<String> {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, HandshakeFailure, UnknownCA, UnsupportedCertificate,
    };
    let why = match alert {
        CertificateRequired => {
            return Some(
                "the server requires a client certificate: name it and its key by cert and key".into(),
            );
        }
        // With TLS 1.2 a server says no more than this.
        HandshakeFailure if !has_certificate => {
            let what = "the server ended the handshake: it requires a client certificate (name it and its key by cert \
                        and key), or no cipher is common to both";
            return Some(what.into());
        }
        UnknownCA => "it is signed by no CA that the server trusts",
        CertificateExpired => "it has expired",
        CertificateRevoked => "it is revoked",
        BadCertificate | CertificateUnknown | UnsupportedCertificate | AccessDenied => {
            "the server's log says why"
        }
        _ => return None,
    };
    Some(format!("the server refuses this client's certificate: {why}"))
}
