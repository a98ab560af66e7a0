//! A small authority of our own, with the files that brokers, clients and proxies are given.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

/// An authority, and the folder in which its files are.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// The files of a certificate.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) chain: String,
    pub(crate) key: String,
    serial: u64,
}

impl Authority {
    /// A new authority; its certificate is `NAME.pem` in the folder.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let authority = Self { issuer, folder: folder.to_owned() };
        authority.write(&format!("{name}.pem"), &authority.issuer.pem());
        authority
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    fn write(&self, file: &str, text: &str) -> String {
        fs::write(self.folder.join(file), text).expect("a file");
        self.path(file)
    }

    /// A certificate for a server with these names.
    pub(crate) fn server(&self, file: &str, names: &[&str]) -> Files {
        self.issue(file, 1, "server", names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client with this Common Name.
    pub(crate) fn client(&self, common_name: &str, serial: u64) -> Files {
        self.issue(common_name, serial, common_name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        file: &str,
        serial: u64,
        common_name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Files {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Files {
            chain: self.write(&format!("{file}.crt"), &certificate.pem()),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
            serial,
        }
    }

    /// Writes a list of revoked certificates.
    pub(crate) fn revoke(&self, file: &str, revoked: &[&Files]) -> String {
        let revoked = revoked.iter().map(|files| RevokedCertParams {
            serial_number: SerialNumber::from(files.serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        self.write(file, &list.pem().expect("PEM"))
    }
}
