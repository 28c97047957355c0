//! What stands for Kerberos in a build without the feature `gssapi`: nobody can be a principal.
//!
//! The configuration refuses such a source before; the types say the same.

use std::convert::Infallible;

use crate::config::secret::SecretPlace;

use super::bind::CredentialsError;
use super::failure::Trouble;
use super::session::Patience;
use super::wire::Stream;

/// A principal; there is none.
pub struct Kerberos(Infallible);

impl Kerberos {
    /// Always refuses.
    pub fn read(_principal: &str, _keytab: &SecretPlace) -> Result<Kerberos, CredentialsError> {
        Err(CredentialsError::NotBuilt)
    }

    /// Never called.
    pub fn principal(&self) -> String {
        match self.0 {}
    }
}

/// Never called.
pub async fn bind(
    kerberos: &Kerberos,
    _host: &str,
    _stream: &mut dyn Stream,
    _server_certificate: Option<&[u8]>,
    _patience: Patience,
) -> Result<(), Trouble> {
    match kerberos.0 {}
}
