//! The two questions to the API server. Neither stores anything there.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};

use super::Verdict;

const PATH: &str = "/metrics";

pub(super) async fn review(client: &Client, token: &str) -> Result<Verdict, Error> {
    let params = PostParams::default();
    let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
    let question = TokenReview { spec, ..TokenReview::default() };
    let answer = Api::<TokenReview>::all(client.clone()).create(&params, &question).await?;
    let Some(user) = answer.status.filter(|status| status.authenticated == Some(true)).and_then(|it| it.user)
    else {
        return Ok(Verdict::Unauthenticated);
    };
    let question = SubjectAccessReview { spec: may_read(user), ..SubjectAccessReview::default() };
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&params, &question).await?;
    let is_allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
    Ok(if is_allowed { Verdict::Allowed } else { Verdict::Forbidden })
}

fn may_read(user: UserInfo) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra.map(|extra| extra.into_iter().collect::<BTreeMap<_, _>>()),
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some(PATH.to_owned()),
            verb: Some("get".to_owned()),
        }),
        ..SubjectAccessReviewSpec::default()
    }
}
