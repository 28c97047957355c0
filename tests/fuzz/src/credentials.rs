//! Certificates that a server shows, and keytabs.

use rcptsync::certificate::{Certificate, fingerprint};
use rcptsync::harmless;

pub fn certificate(octets: &[u8]) {
    for certificate in Certificate::read(octets)
        .into_iter()
        .chain(Certificate::of_pem(octets))
    {
        let printed = fingerprint(&certificate.fingerprint);
        assert_eq!(printed.as_ref(), Some(&certificate.fingerprint));
        let texts = [&certificate.subject, &certificate.issuer];
        for text in texts.into_iter().chain(&certificate.names) {
            assert_eq!(
                *text,
                harmless::key(text.as_bytes()),
                "not one harmless line"
            );
        }
    }
    if let Ok(certificate) = Certificate::read(octets) {
        let longer = [octets, b"\0"].concat();
        assert!(Certificate::read(&longer).is_err(), "{certificate:?}");
    }
}

#[cfg(feature = "gssapi")]
pub fn keytab(octets: &[u8]) {
    use rcptsync::directory::{keytab, sasl};

    if let Ok(layers) = sasl::without_layer(octets) {
        assert!(octets.len() == 4 && octets[0] & 1 == 1 && layers == [1, 0, 0, 0]);
    }
    let Ok(entries) = keytab::read(octets) else {
        return;
    };
    let keys_octets: usize = entries.iter().map(|entry| entry.key.len()).sum();
    assert!(keys_octets <= octets.len());
    for entry in &entries {
        assert!(keytab::principals(&entries).contains(&entry.principal));
        // The realm is what stands behind the last `@` that the writer put there.
        let (name, realm) = entry.principal.rsplit_once('@').expect("a realm");
        if realm.len() > 1000 || name.len() > 1000 || name.contains('/') || name.contains('@') {
            continue;
        }
        let mut written = Vec::new();
        written.extend(1_u16.to_be_bytes());
        for text in [realm, name] {
            written.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
            written.extend(text.as_bytes());
        }
        written.extend([0; 8]);
        written.push(0);
        let kind = u16::try_from(entry.encryption_type).expect("two octets");
        written.extend(kind.to_be_bytes());
        written.extend(u16::try_from(entry.key.len()).expect("short").to_be_bytes());
        written.extend(&entry.key);
        written.extend(entry.version.to_be_bytes());
        let length = i32::try_from(written.len()).expect("short");
        let file = [&[5, 2], length.to_be_bytes().as_slice(), &written].concat();
        let read = keytab::read(&file).expect("a keytab");
        assert_eq!(read.len(), 1);
        let again = &read[0];
        assert_eq!(again.principal, entry.principal);
        assert_eq!(again.key, entry.key);
        assert_eq!(
            (again.version, again.encryption_type),
            (entry.version, entry.encryption_type)
        );
    }
}
