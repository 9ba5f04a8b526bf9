//! The operator's own user name.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::timeout;

use crate::connect::REQUEST_TIMEOUT;

/// Asks the API server for the user name that our requests are authenticated as (a `SelfSubjectReview`, which
/// every authenticated user may make and which stores nothing). `Ok(None)` where the server names none.
///
/// # Errors
/// If the request fails or takes longer than [`REQUEST_TIMEOUT`].
pub async fn own_user_name(client: &Client) -> Result<Option<String>, IdentityError> {
    let api = Api::<SelfSubjectReview>::all(client.clone());
    let params = PostParams::default();
    let question = SelfSubjectReview::default();
    let review = timeout(REQUEST_TIMEOUT, api.create(&params, &question))
        .await
        .map_err(|_| IdentityError::Timeout)?
        .map_err(|error| IdentityError::Api(Box::new(error)))?;
    Ok(review.status.and_then(|status| status.user_info).and_then(|user| user.username))
}

/// Why our user name could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The API server refused or failed.
    #[error("the SelfSubjectReview failed")]
    Api(#[source] Box<kube::Error>),
    /// No answer in time.
    #[error("the SelfSubjectReview timed out")]
    Timeout,
}
