//! Why the certificates could not be kept.

use pod_reloader_k8s::named;
use pod_reloader_serving::certificate::CertificateError;

use crate::pair::AuthorityError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Request(#[from] named::Error),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}
